package uplink

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dispatch/dispatcher/machine"
	"dispatch/testdata/netlab"
)

// labFleet makes a Fleet of a lab's interfaces.
func labFleet(t *testing.T, args ...string) *Fleet {
	t.Helper()
	specs, err := ParseSpecs(args)
	if err != nil {
		t.Fatal(err)
	}
	f, err := NewFleet(new(machine.Table), specs)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func noBands(Family) []IDs { return nil }

// Each errand begins with the next line, and each of its calls takes the line behind; of several bands, those in the best
// that there is.
func TestServerDialerTakesTheLinesInTurn(t *testing.T) {
	lab := netlab.New(t, netlab.Config{})
	server := lab.EchoPeer(t, netip.AddrPortFrom(server4, 53))
	for name, c := range map[string]struct {
		bands []IDs
		lines []int
	}{
		"no bands": {nil, []int{0, 1, 2}}, "one is not up": {[]IDs{0b101, 0b10}, []int{0, 2}},
		"none is up": {[]IDs{0, 0b111}, []int{0, 1, 2}}, "the best is not there": {[]IDs{1 << 9, 0b10}, []int{1}},
	} {
		t.Run(name, func(t *testing.T) {
			f := labFleet(t, "wan1@5", "wan2@3", "wan3@2")
			var got, want []netip.Addr
			for first := range 4 {
				dial := f.ServerDialer(func(Family) []IDs { return c.bands })
				for call := range 4 {
					conn, err := dial(t.Context(), "tcp", server)
					if err != nil {
						t.Fatal(err)
					}
					peer, err := netlab.ReadPeer(conn)
					if err := errors.Join(err, conn.Close()); err != nil {
						t.Fatal(err)
					}
					line := c.lines[(first+call)%len(c.lines)]
					got, want = append(got, peer.Addr()), append(want, lab.Uplink(line).IPv4.Addr())
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("servers saw %s, want %s", got, want)
			}
		})
	}
}

func TestServerDialerReachesNeighboursUnbound(t *testing.T) {
	netlab.New(t, netlab.Config{})
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	server := l.Addr().(*net.TCPAddr).AddrPort()
	f := labFleet(t, "wan1")
	c, err := f.ServerDialer(noBands)(t.Context(), "tcp", server)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ServerDialer(noBands)(t.Context(), "icmp", server); err == nil || !strings.Contains(err.Error(), `"icmp"`) {
		t.Errorf("a network that does not exist was dialled: %v", err)
	}
}

// Without a line of the server's family there is no way, and the error names both sides.
func TestNoServerWithoutALineOfItsFamily(t *testing.T) {
	netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{{NoIPv6: true}, {}}})
	f := labFleet(t, "wan1")
	_, err := f.ServerDialer(noBands)(t.Context(), "udp", netip.AddrPortFrom(server6, 53))
	if !errors.Is(err, ErrNoUplink) || !strings.Contains(err.Error(), "the host has ipv6 addresses, the uplinks have ipv4") {
		t.Error(err)
	}
	for addr, want := range map[netip.Addr]bool{server4: true, server6: false, netip.IPv6Loopback(): true} {
		if got := f.Reaches(addr); got != want {
			t.Errorf("reaches %s: %t", addr, got)
		}
	}
}
