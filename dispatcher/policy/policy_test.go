package policy

import (
	"net/netip"
	"testing"

	"dispatch/dispatcher/uplink"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	var l Local
	l.Protect(netip.MustParseAddrPort("127.0.0.1:1080"))
	l.Protect(netip.MustParseAddrPort("[::]:8080"))
	own, direct := uplink.Place{Direct: true, Own: true}, uplink.Place{Direct: true}
	lines := uplink.IDs(0).With(3)
	for _, c := range []struct {
		destination string
		place       uplink.Place
		here, far   Verdict // for a client on this machine, and for one on another
	}{
		{"127.0.0.1:1080", own, Verdict{Refused, 0, Gateway}, Verdict{Refused, 0, Gateway}},
		{"[::]:443", uplink.Place{}, Verdict{Refused, 0, Gateway}, Verdict{Refused, 0, Gateway}},
		{"198.51.100.2:8080", own, Verdict{Refused, 0, Gateway}, Verdict{Refused, 0, Gateway}},
		{"203.0.113.9:8080", uplink.Place{}, Verdict{Balanced, 0, Default}, Verdict{Balanced, 0, Default}},
		{"198.51.100.2:1080", own, Verdict{Direct, 0, OwnAddress}, Verdict{Refused, 0, RemoteClient}},
		{"127.0.0.1:22", own, Verdict{Direct, 0, OwnAddress}, Verdict{Refused, 0, RemoteClient}},
		{"169.254.169.254:80", direct, Verdict{Direct, 0, LinkLocal}, Verdict{Refused, 0, RemoteClient}},
		{"172.17.0.9:80", direct, Verdict{Direct, 0, Neighbour}, Verdict{Refused, 0, RemoteClient}},
		{"198.51.100.9:80", uplink.Place{Lines: lines}, Verdict{Balanced, lines, LineNetwork}, Verdict{Balanced, lines, LineNetwork}},
	} {
		for remote, want := range map[bool]Verdict{false: c.here, true: c.far} {
			q := Query{Destination: netip.MustParseAddrPort(c.destination), Place: c.place, Remote: remote}
			if got := l.Judge(q); got != want {
				t.Errorf("%s, remote client %t: %+v, want %+v", c.destination, remote, got, want)
			}
		}
	}
}
