package machine

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

func lookup(dst netip.Addr, device int, source netip.Addr) (p Path, err error) {
	n, err := openNetlink()
	if err != nil {
		return Path{}, err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	p, err = n.path(dst, device, source)
	// The kernel takes the device of an IPv6 look-up with a source for a wish only (ip6_route_output_flags), but asks
	// strictly for a socket that is bound: so does a look-up without a source.
	if dst.Is6() && device != 0 && source.IsValid() && errors.Is(err, ErrNoRoute) {
		p, err = n.path(dst, device, netip.Addr{})
		p.Source = source
	}
	return p, err
}

// path asks for the route as the table has it, and for what the kernel makes of it where that is still open. The second
// question alone would not do: of an IPv4 socket that is bound to a device, the kernel takes all the world for its
// neighbours where it finds no route (ip_route_output_key_hash_rcu).
func (n *rtnetlink) path(dst netip.Addr, device int, source netip.Addr) (Path, error) {
	r, err := n.matchingRoute(dst, device, source)
	switch {
	case noRoute(err):
		return Path{}, fmt.Errorf("%w: %w", ErrNoRoute, err)
	case err != nil:
		return Path{}, err
	case r.kind == unix.RTN_BLACKHOLE, r.kind == unix.RTN_UNREACHABLE, r.kind == unix.RTN_PROHIBIT, r.kind == unix.RTN_THROW:
		return Path{}, fmt.Errorf("%w: the route to %s in table %d discards", ErrNoRoute, r.to, r.table)
	case device != 0 && r.leaves != leavesByDevice:
		return Path{}, fmt.Errorf("%w: %w", ErrNoRoute, unix.ENETUNREACH)
	}
	p := Path{Device: device, Source: source, Router: r.router, To: r.to, Metric: r.metric, Table: r.table}
	if device != 0 && source.IsValid() {
		return p, nil
	}
	chosen, err := n.askRoute(dst, device, source, 0)
	switch {
	case noRoute(err):
		return Path{}, fmt.Errorf("%w: %w", ErrNoRoute, err)
	case err != nil:
		return Path{}, err
	}
	if !source.IsValid() {
		p.Source = chosen.source
	}
	if device == 0 { // of several hops the kernel has taken one
		p.Device, p.Router = chosen.device, chosen.router
	}
	return p, nil
}
