package dispatcher

import (
	"fmt"
	"slices"
	"strings"

	"dispatch/dispatcher/balance"
	"dispatch/dispatcher/uplink"
)

// Profile is what a listener's requests have in common: its name, and by which lines they leave, in which order. They share
// it, so it must not be changed.
type Profile struct {
	// Name is the listener's in records and snapshots, such as "socks 127.0.0.1:1080".
	Name string
	// Strategy orders the lines of a band; nil: the Dispatcher's does. Of traffic only the Dispatcher's is told, if it is a
	// balance.Sampler.
	Strategy balance.Strategy
	// Lines are the names of the uplinks that may be used, none of which need be in the fleet now; empty: all. What the
	// policy lets go without a line is not affected.
	Lines []string
}

// lines returns the uplinks that may be used. A nil Profile allows all.
func (p *Profile) lines(view *uplink.View) uplink.IDs {
	if p == nil || len(p.Lines) == 0 {
		return view.IDs
	}
	var ids uplink.IDs
	for n := range view.Bindings {
		if u := view.Bindings[n].Uplink; slices.Contains(p.Lines, u.Name()) {
			ids = ids.With(u.ID())
		}
	}
	return ids
}

// limits adds to the failure of a request that found no line that it may not use all of them.
func (p *Profile) limits(err error) error {
	if p == nil || len(p.Lines) == 0 {
		return err
	}
	return fmt.Errorf("listener %q may use no line but %s: %w", p.Name, strings.Join(p.Lines, ", "), err)
}

// strategyOf returns what orders the lines of a request.
func (d *Dispatcher) strategyOf(req *Request) balance.Strategy {
	if req.Profile != nil && req.Profile.Strategy != nil {
		return req.Profile.Strategy
	}
	return d.strategy
}
