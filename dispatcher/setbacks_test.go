package dispatcher

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"dispatch/dispatcher/uplink"
)

func TestSetbacks(t *testing.T) {
	t.Parallel()
	all := destinations("192.0.2.1", "192.0.2.2", "192.0.2.3")
	a, b, c := all[0], all[1], all[2]
	for name, test := range map[string]struct {
		winner  netip.AddrPort
		won     int
		defeats []defeat
		want    []netip.AddrPort
	}{
		"the first won":           {a, 1, nil, all},
		"silent":                  {b, 2, []defeat{{a, 1, uplink.TimedOut}}, []netip.AddrPort{b, c, a}},
		"refused":                 {b, 2, []defeat{{a, 1, uplink.Refused}}, []netip.AddrPort{b, c, a}},
		"two unreachable":         {c, 3, []defeat{{a, 1, uplink.HostUnreachable}, {b, 2, uplink.HostUnreachable}}, []netip.AddrPort{c, a, b}},
		"slow":                    {b, 2, []defeat{{a, 1, uplink.Canceled}}, []netip.AddrPort{b, c, a}},
		"given up as it began":    {a, 1, []defeat{{b, 2, uplink.Canceled}}, all},
		"by another line":         {a, 2, []defeat{{a, 1, uplink.TimedOut}}, all},
		"the line could not":      {b, 2, []defeat{{a, 1, uplink.LineUnusable}, {a, 1, uplink.NetworkUnreachable}}, all},
		"refused after the start": {a, 1, []defeat{{b, 2, uplink.Refused}}, []netip.AddrPort{a, c, b}},
	} {
		var s setbacks
		s.learn(test.winner, test.won, test.defeats)
		if got := s.order(slices.Clone(all)); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var s setbacks
		s.learn(b, 2, []defeat{{a, 1, uplink.TimedOut}})
		s.learn(a, 3, nil) // reached after all
		if got := s.order(slices.Clone(all)); !slices.Equal(got, all) {
			t.Errorf("after a success: %v", got)
		}
		s.learn(b, 2, []defeat{{a, 1, uplink.TimedOut}})
		time.Sleep(setbackFor)
		if got := s.order(slices.Clone(all)); !slices.Equal(got, all) {
			t.Errorf("after a while: %v", got)
		}
		for n := range 3 * maxSetbacks {
			s.learn(b, 2, []defeat{{netip.AddrPortFrom(a.Addr(), uint16(1000+n)), 1, uplink.TimedOut}})
			time.Sleep(setbackFor / maxSetbacks / 2)
		}
		if n := len(s.until); n > maxSetbacks {
			t.Errorf("%d are kept", n)
		}
	})
}
