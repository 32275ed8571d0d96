package gateway

import (
	"context"
	"errors"
	"net/netip"

	"dispatch/dispatcher"
	"dispatch/dispatcher/uplink"
)

// Question asks which way a connection would take.
type Question struct {
	Request dispatcher.Request
	// Uplinks to choose from; empty: those of Status, and where it has none, the automatic choice.
	Uplinks []uplink.Spec
	// DNS are the servers to ask for the host; empty: the system's resolver.
	DNS []netip.AddrPort
	// Status is a running gateway's; the zero Status: there is none, and all lines are taken for up.
	Status Status
}

// Explanation is which way a connection would take.
type Explanation struct {
	// Hops are the lines that reach the host, in the order that a first connection would try them.
	Hops []Hop
	// Lines is what the uplinks stand for now, in the user's order.
	Lines []uplink.Binding
	// Gone are lines that the running gateway has and the machine does not, by name.
	Gone []string
}

// Hop is one line, with the destinations it reaches.
type Hop struct {
	dispatcher.Hop
	// Line is what the uplink stands for now, nil without one.
	Line *uplink.Binding
}

// Explain tells which way a connection would take. It asks for the host's addresses, and connects to nothing else. Where no
// line reaches the host, the error wraps dispatcher.ErrNoUplink, and the Explanation has all but hops. Other errors are
// those of ChooseLines and of Dispatcher.Route.
func Explain(ctx context.Context, q Question) (e Explanation, err error) {
	if len(q.Uplinks) == 0 && len(q.Status.Lines) > 0 {
		if q.Uplinks, e.Gone, err = q.Status.specs(); err != nil {
			return Explanation{}, err
		}
	}
	lines, err := ChooseLines(q.Uplinks)
	if err != nil {
		return Explanation{}, err
	}
	bands := q.Status.bands(lines)
	names, err := newResolver(q.DNS, lines, bands.Bands, nil)
	if err != nil {
		return Explanation{}, err
	}
	defer func() { err = errors.Join(err, names.Close()) }()
	dispatch := dispatcher.New(dispatcher.Config{Fleet: lines, Resolver: names, Bands: bands})

	view, err := lines.View()
	if err != nil {
		return Explanation{}, err
	}
	e.Lines = view.Bindings
	route, err := dispatch.Route(ctx, &q.Request)
	if err != nil {
		return e, err
	}
	for _, h := range route.Hops() {
		hop := Hop{Hop: h}
		if h.Uplink != nil {
			hop.Line = view.BindingOf(h.Uplink)
		}
		e.Hops = append(e.Hops, hop)
	}
	return e, nil
}
