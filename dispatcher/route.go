package dispatcher

import (
	"cmp"
	"context"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"dispatch/dispatcher/uplink"
)

// Route is where one request can go: its destinations, and for each line that reaches some of them those in the
// order they are to be tried.
type Route struct {
	host  string
	lanes []lane

	// Room for what most routes need, in one allocation.
	fewLanes        [4]lane
	eligible, order [4]*uplink.Uplink
}

// lane is one line with the destinations it reaches.
type lane struct {
	uplink       *uplink.Uplink // nil: direct, unbound
	destinations []netip.AddrPort

	// Kept by pairs.
	tried int    // attempts
	dealt uint64 // destinations, by place
}

// maxDestinations is how many addresses of a name are tried at most: one bit each.
const maxDestinations = 64

// Uplink returns the line that is to be tried first, nil for a destination that is dialled directly.
func (r *Route) Uplink() *uplink.Uplink { return r.lanes[0].uplink }

// Route resolves the request's host, pairs its destinations with the uplinks of their family, and has the strategy
// order those: one pick of the rotation, to be used for one request. Destinations that are not allowed are left out; the
// request is refused when none is left. Errors are *Error.
func (d *Dispatcher) Route(ctx context.Context, req *Request) (*Route, error) {
	if err := req.check(); err != nil {
		return nil, &Error{Step: StepCheck, Class: InvalidRequest, Host: req.Host, Err: err}
	}
	destinations, err := d.resolve(ctx, req)
	if err != nil {
		return nil, err
	}
	view, err := d.uplinks.View()
	if err != nil {
		return nil, &Error{Step: StepChoose, Class: ConnectFailed, Host: req.Host, Err: err}
	}

	route := &Route{host: req.Host}
	route.lanes = route.fewLanes[:0]
	var direct []netip.AddrPort
	var few, fewAvoided [8]uint64
	reach, avoided := few[:0], fewAvoided[:0] // by destination: the set of uplinks that reach it, and those to be avoided
	allowed, refused := destinations[:0], error(nil)
	for _, dst := range destinations {
		place := view.Place(dst.Addr())
		if err := d.refuses(view, req, dst, place); err != nil {
			refused = cmp.Or(refused, err)
			continue
		}
		allowed = append(allowed, dst)
		lines, local := eligible(view, place, dst.Addr())
		if local {
			direct = append(direct, dst)
		}
		avoid := lines & d.observer.Avoid(uplink.FamilyOf(dst.Addr()))
		reach, avoided = append(reach, lines&^avoid), append(avoided, avoid)
	}
	destinations = allowed
	if len(destinations) == 0 {
		return nil, &Error{Step: StepChoose, Class: NotAllowed, Host: req.Host, Err: refused}
	}
	if !slices.ContainsFunc(reach, func(lines uint64) bool { return lines != 0 }) {
		reach, avoided = avoided, nil // all look bad: each may be better than it looks
	}
	if len(direct) > 0 {
		route.lanes = append(route.lanes, lane{destinations: direct})
	}
	d.balance(route, req, destinations, reach)
	d.fallBack(route, destinations, avoided)
	if len(route.lanes) == 0 {
		return nil, noUplink(req.Host, destinations, view)
	}
	return route, nil
}

// refuses says why a destination is left out on principle, nil for one that is not. What this machine reaches without an
// uplink is its own affair: its services, what trusts all that comes from it (a cloud's metadata service, say), and the
// networks behind it. To clients on other machines a proxy must not be a way past its firewall.
func (d *Dispatcher) refuses(view *uplink.View, req *Request, dst netip.AddrPort, place uplink.Place) error {
	switch {
	case dst.Addr().IsUnspecified() || d.protects(dst, place):
		return fmt.Errorf("%w: %s is the gateway itself", ErrNotAllowed, dst)
	case place.Direct && remote(view, req.Client.Addr()):
		return fmt.Errorf("%w: %s is for programs on the gateway's own machine only", ErrNotAllowed, dst)
	}
	return nil
}

// remote tells whether a client is on another machine.
func remote(view *uplink.View, client netip.Addr) bool {
	return client.IsValid() && !view.Place(client).Own
}

// balance adds a lane for each uplink that reaches something, in the strategy's order.
func (d *Dispatcher) balance(route *Route, req *Request, destinations []netip.AddrPort, reach []uint64) {
	choice := Choice{Request: req, Eligible: route.eligible[:0]}
	var reachers uint64
	alike := true // every destination is reached by the same uplinks
	for n, lines := range reach {
		reachers |= lines
		alike = alike && lines == reach[0]
		if lines != 0 {
			choice.Families |= uplink.FamilyOf(destinations[n].Addr())
		}
	}
	if reachers == 0 {
		return
	}
	for n, u := range d.uplinks.Uplinks() {
		if reachers&(1<<n) != 0 {
			choice.Eligible = append(choice.Eligible, u)
		}
	}
	if alike {
		destinations = d.setbacks.order(interleave(destinations))
	}
	for _, u := range d.strategy.Order(route.order[:0], choice) {
		l := lane{uplink: u, destinations: destinations}
		if !alike {
			l.destinations = d.setbacks.order(interleave(reached(destinations, reach, u)))
		}
		route.lanes = append(route.lanes, l)
	}
}

// fallBack adds the lines that are to be avoided, behind the others: a request fails only when all have failed.
func (d *Dispatcher) fallBack(route *Route, destinations []netip.AddrPort, avoided []uint64) {
	var lines uint64
	for _, some := range avoided {
		lines |= some
	}
	for ; lines != 0; lines &= lines - 1 { // drops the lowest
		u := d.uplinks.Uplinks()[bits.TrailingZeros64(lines)]
		route.lanes = append(route.lanes, lane{uplink: u, destinations: d.setbacks.order(interleave(reached(destinations, avoided, u)))})
	}
}

// reached returns the destinations that u reaches.
func reached(destinations []netip.AddrPort, reach []uint64, u *uplink.Uplink) []netip.AddrPort {
	var out []netip.AddrPort
	for n, dst := range destinations {
		if reach[n]&(1<<u.Number) != 0 {
			out = append(out, dst)
		}
	}
	return out
}

// resolve returns the host's destinations. A literal is not asked for.
func (d *Dispatcher) resolve(ctx context.Context, req *Request) ([]netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(req.Host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(addr.Unmap(), req.Port)}, nil
	}
	addrs, err := d.resolver.Lookup(ctx, req.Host)
	if err == nil && len(addrs) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return nil, &Error{Step: StepResolve, Class: resolveClass(err), Host: req.Host, Err: err}
	}
	addrs = addrs[:min(len(addrs), maxDestinations)]
	destinations := make([]netip.AddrPort, len(addrs))
	for n, a := range addrs {
		destinations[n] = netip.AddrPortFrom(a.Unmap(), req.Port)
	}
	return destinations, nil
}

// Reaches tells whether a request for addr has a way now: a line of its family, or none is needed.
func (d *Dispatcher) Reaches(addr netip.Addr) bool {
	view, err := d.uplinks.View()
	if err != nil {
		return true // the request will say so
	}
	lines, direct := eligible(view, view.Place(addr), addr)
	return lines != 0 || direct
}

// eligible returns the set of uplinks that can reach addr (bit n: Number n), and whether it is local and to be dialled
// unbound instead.
func eligible(view *uplink.View, place uplink.Place, addr netip.Addr) (lines uint64, direct bool) {
	if place.Direct {
		return 0, true
	}
	family := uplink.FamilyOf(addr)
	for n := range view.Lines {
		if view.Lines[n].Families&family != 0 && (place.Lines == 0 || place.Lines&(1<<n) != 0) {
			lines |= 1 << n
		}
	}
	return lines, false
}

// interleave alternates the families, IPv6 first (RFC 8305 section 4), so that one broken family costs one attempt.
func interleave(destinations []netip.AddrPort) []netip.AddrPort {
	var six, four []netip.AddrPort
	for _, dst := range destinations {
		if dst.Addr().Is4() {
			four = append(four, dst)
		} else {
			six = append(six, dst)
		}
	}
	if len(six) == 0 || len(four) == 0 {
		return destinations
	}
	mixed := make([]netip.AddrPort, 0, len(destinations))
	for n := range max(len(six), len(four)) {
		if n < len(six) {
			mixed = append(mixed, six[n])
		}
		if n < len(four) {
			mixed = append(mixed, four[n])
		}
	}
	return mixed
}

// Hop is one line that a request can leave by, with the destinations it reaches, in the order they are tried.
type Hop struct {
	Uplink       *uplink.Uplink // nil: direct, not bound to a line
	Destinations []netip.AddrPort
}

// Hops returns the lines in the order they are tried.
func (r *Route) Hops() []Hop {
	hops := make([]Hop, len(r.lanes))
	for n, l := range r.lanes {
		hops[n] = Hop{l.uplink, l.destinations}
	}
	return hops
}
