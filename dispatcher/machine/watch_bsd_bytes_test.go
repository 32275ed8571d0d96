//go:build darwin || freebsd || linux

package machine

import "testing"

func TestRoutingChange(t *testing.T) {
	t.Parallel()
	message := func(kind byte, flags byte) []byte {
		b := make([]byte, 64)
		b[3], b[8], b[11] = kind, flags, flags // the flags in either byte order
		return b
	}
	for name, c := range map[string]struct {
		message []byte
		want    bool
	}{
		"a route":                   {message(1, 0x1), true},
		"a route is gone":           {message(2, 0x1), true},
		"a host's route":            {message(1, 0x4), false},
		"a neighbour is gone":       {message(2, 0x5), false},
		"somebody asked":            {message(4, 0x1), false},
		"an address":                {message(0xc, 0x4), true},
		"an address is gone":        {message(0xd, 0), true},
		"a link":                    {message(0xe, 0x4), true},
		"an interface has come":     {message(0x11, 0), true},
		"a multicast group":         {message(0xf, 0), false},
		"nothing":                   {nil, false},
		"a route, cut off too soon": {message(3, 4)[:9], true},
	} {
		if got := routingChange(c.message); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
