package uplink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
)

// ErrNoUplink says that no uplink reaches any address of a destination.
var ErrNoUplink = errors.New("no eligible uplink")

// NoUplink is the error for a destination that has addresses of these families, and that no uplink reaches: it names the
// families on both sides, which is what explains the failure. It wraps ErrNoUplink.
func (v *View) NoUplink(wanted Family) error {
	var offered Family
	problems := ""
	for n := range v.Bindings {
		l := &v.Bindings[n]
		offered |= l.Families
		if l.Problem != "" {
			problems += fmt.Sprintf("; %s: %s", l.Uplink.Name(), l.Problem)
		}
	}
	return fmt.Errorf("%w: the host has %s addresses, the uplinks have %s%s", ErrNoUplink, wanted, offered, problems)
}

// Reaches tells whether there is a way to addr now: a line of its family, or none is needed.
func (f *Fleet) Reaches(addr netip.Addr) bool {
	view, err := f.View()
	if err != nil {
		return true // who tries will be told
	}
	place := view.Place(addr)
	return place.Direct || view.Reaching(addr, place.Lines) != 0
}

// ServerDialer returns a function that connects to servers which the gateway itself needs, such as DNS servers, for one
// errand: one attempt a call, through the uplinks in turn, each call by the line behind the last call's, and unbound where
// the server is this machine's or its neighbour. Bands returns the lines by standing, the best first: only the best that
// reach the server are used. It may be called by several goroutines. Network is "tcp" or "udp". The caller closes the
// connection.
func (f *Fleet) ServerDialer(bands func(Family) []IDs) func(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error) {
	var turn atomic.Uint64
	turn.Store(f.errands.Add(1) - 1)
	return func(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error) {
		return f.dialServer(ctx, bands, turn.Add(1)-1, network, server)
	}
}

func (f *Fleet) dialServer(ctx context.Context, bands func(Family) []IDs, turn uint64, network string, server netip.AddrPort) (net.Conn, error) {
	view, err := f.View()
	if err != nil {
		return nil, err
	}
	place := view.Place(server.Addr())
	if place.Direct {
		return dialBy(ctx, network, server, Direct{})
	}
	family := FamilyOf(server.Addr())
	lines := view.Reaching(server.Addr(), place.Lines)
	if lines == 0 {
		return nil, fmt.Errorf("choose %s: %w", server, view.NoUplink(family))
	}
	for _, band := range bands(family) {
		if best := lines & band; best != 0 {
			lines = best
			break
		}
	}
	u := view.Binding(lines.Nth(int(turn % uint64(lines.Len())))).Uplink
	return dialBy(ctx, network, server, u)
}

// dialBy connects by one way out.
func dialBy(ctx context.Context, network string, server netip.AddrPort, way interface {
	Dialer
	DialUDP(ctx context.Context, dst netip.AddrPort) (net.Conn, error)
}) (net.Conn, error) {
	switch network {
	case "tcp":
		return way.DialStream(ctx, To(server))
	case "udp":
		return way.DialUDP(ctx, server)
	}
	return nil, fmt.Errorf("network %q is neither tcp nor udp", network)
}
