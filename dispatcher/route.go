package dispatcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"

	"dispatch/dispatcher/balance"
	"dispatch/dispatcher/policy"
	"dispatch/dispatcher/uplink"
)

// Route is where one request can go: its destinations, and for each line that reaches some of them those in the
// order they are to be tried.
type Route struct {
	request    *Request
	generation uint64 // of the View that it was made from
	lanes      []lane

	// Room for what most routes need, in one allocation.
	fewLanes [4]lane
	order    [8]uplink.ID
}

// lane is one line with the destinations it reaches.
type lane struct {
	uplink       *uplink.Uplink // nil: direct, unbound
	destinations []netip.AddrPort
	rule         policy.Rule
	band         int

	// Kept by pairs.
	tried int    // attempts
	dealt uint64 // destinations, by their index
}

// maxDestinations is how many addresses of a name are tried at most: one bit each.
const maxDestinations = 64

// Uplink returns the line that is to be tried first, nil for a destination that is dialled directly.
func (r *Route) Uplink() *uplink.Uplink { return r.lanes[0].uplink }

// reach is the lines that reach a destination.
type reach struct {
	destination netip.AddrPort
	lines       uplink.IDs
	rule        policy.Rule
}

// Route resolves the request's host, has the policy judge its destinations, pairs those with the uplinks of their family
// that the request's profile allows, and has the strategy order those of each band: one pick of the rotation, to be used
// for one request. Destinations that are not allowed are left out; the request is refused when none is left. Errors are
// *Error.
func (d *Dispatcher) Route(ctx context.Context, req *Request) (*Route, error) {
	if err := req.check(); err != nil {
		return nil, &Error{Step: StepCheck, Class: InvalidRequest, Host: req.Host, Err: err}
	}
	destinations, err := d.resolve(ctx, req)
	if err != nil {
		return nil, err
	}
	view, err := d.fleet.View()
	if err != nil {
		return nil, &Error{Step: StepChoose, Class: ConnectFailed, Host: req.Host, Err: err}
	}

	route := &Route{request: req, generation: view.Generation}
	route.lanes = route.fewLanes[:0]
	query := policy.Query{
		Client: req.Client.Addr(), Remote: remote(view, req.Client.Addr()), User: req.User, Host: req.Host,
	}
	mayUse := req.Profile.lines(view)
	var few [8]reach
	reached := few[:0]
	var direct lane
	allowed, refused := destinations[:0], error(nil)
	for _, dst := range destinations {
		query.Destination, query.Place = dst, view.Place(dst.Addr())
		verdict := d.policy.Judge(query)
		switch verdict.Decision {
		case policy.Refused:
			refused = cmp.Or(refused, fmt.Errorf("%w: %s %s", ErrNotAllowed, dst, verdict.Rule.Explain()))
			continue
		case policy.Direct:
			direct.destinations, direct.rule = append(direct.destinations, dst), verdict.Rule
		case policy.Balanced:
			reached = append(reached, reach{dst, view.Reaching(dst.Addr(), verdict.Only) & mayUse, verdict.Rule})
		}
		allowed = append(allowed, dst)
	}
	if len(allowed) == 0 {
		return nil, &Error{Step: StepChoose, Class: NotAllowed, Host: req.Host, Err: refused}
	}
	if len(direct.destinations) > 0 {
		route.lanes = append(route.lanes, direct)
	}
	d.balance(route, req, view, allowed, reached)
	if len(route.lanes) == 0 {
		return nil, noUplink(req, allowed, view)
	}
	return route, nil
}

// remote tells whether a client is on another machine.
func remote(view *uplink.View, client netip.Addr) bool {
	return client.IsValid() && !view.Place(client).Own
}

// balance adds a lane for each line that reaches something, band by band: a request fails only when all have failed. All
// are the request's destinations, those that are reached without a line included.
func (d *Dispatcher) balance(route *Route, req *Request, view *uplink.View, all []netip.AddrPort, reached []reach) {
	four, six := d.bands.Bands(uplink.IPv4), d.bands.Bands(uplink.IPv6)
	var few [8]reach
	for band := range max(len(four), len(six)) {
		standing := few[:0]
		for _, r := range reached {
			bands := four
			if r.destination.Addr().Is6() {
				bands = six
			}
			if band < len(bands) && r.lines&bands[band] != 0 {
				standing = append(standing, reach{r.destination, r.lines & bands[band], r.rule})
			}
		}
		if len(standing) > 0 {
			d.balanceBand(route, req, view, band, all, standing)
		}
	}
}

// balanceBand adds the lanes of one band, in the strategy's order.
func (d *Dispatcher) balanceBand(route *Route, req *Request, view *uplink.View, band int, all []netip.AddrPort, reached []reach) {
	choice := balance.Choice{Client: req.Client.Addr(), Host: req.Host, View: view}
	alike := true // every destination is reached by the same lines
	for _, r := range reached {
		choice.Lines |= r.lines
		choice.Families |= uplink.FamilyOf(r.destination.Addr())
		alike = alike && r.lines == reached[0].lines
	}
	if alike {
		if len(reached) < len(all) {
			all = destinationsBy(choice.Lines.First(), reached)
		}
		all = d.setbacks.order(interleave(all))
	}
	for _, id := range d.strategyOf(req).Order(route.order[:0], choice) {
		l := lane{uplink: view.Binding(id).Uplink, destinations: all, rule: reached[0].rule, band: band}
		if !alike {
			l.destinations = d.setbacks.order(interleave(destinationsBy(id, reached)))
		}
		route.lanes = append(route.lanes, l)
	}
}

// destinationsBy returns the destinations that a line reaches.
func destinationsBy(id uplink.ID, reached []reach) []netip.AddrPort {
	out := make([]netip.AddrPort, 0, len(reached))
	for _, r := range reached {
		if r.lines.Has(id) {
			out = append(out, r.destination)
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
	switch {
	case err != nil:
		return nil, &Error{Step: StepResolve, Class: resolveClass(err), Host: req.Host, Err: err}
	case len(addrs) == 0:
		return nil, &Error{Step: StepResolve, Class: UnknownHost, Host: req.Host, Err: errors.New("the name has no address")}
	}
	addrs = addrs[:min(len(addrs), maxDestinations)]
	destinations := make([]netip.AddrPort, len(addrs))
	for n, a := range addrs {
		destinations[n] = netip.AddrPortFrom(a.Unmap(), req.Port)
	}
	return destinations, nil
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
	// Rule is the policy's that led to it.
	Rule policy.Rule
	// Band is the line's, counted from 0, the best.
	Band int
}

// Hops returns the lines in the order they are tried.
func (r *Route) Hops() []Hop {
	hops := make([]Hop, len(r.lanes))
	for n, l := range r.lanes {
		hops[n] = Hop{l.uplink, l.destinations, l.rule, l.band}
	}
	return hops
}
