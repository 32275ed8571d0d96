package health

import (
	"net/netip"
	"slices"

	"dispatch/dispatcher/uplink"
)

// kernelView is what the kernel last said of a line.
type kernelView struct {
	known  bool
	source netip.Addr // invalid: it cannot be used
	routed bool       // it has a default route
}

// Kernel takes in what the uplinks stand for now, and which there are. It is to be called whenever either has changed, and
// once at the start.
func (m *Monitor) Kernel(view *uplink.View) {
	for _, after := range m.kernel(view) {
		after()
	}
}

func (m *Monitor) kernel(view *uplink.View) (after []func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.view != nil && view.Generation < m.view.Generation {
		return nil // somebody else has told what came later
	}
	m.view = view
	uplinks := make([]*uplink.Uplink, len(view.Bindings))
	for n := range view.Bindings {
		uplinks[n] = view.Bindings[n].Uplink
	}
	m.enlist(uplinks)
	for n := range view.Bindings {
		v := &view.Bindings[n]
		for f, family := range families {
			now := kernelView{known: true, source: v.Source(family), routed: v.Routed&family != 0}
			routed := slices.ContainsFunc(view.Bindings, func(v uplink.Binding) bool { return v.Routed&family != 0 })
			after = append(after, m.follow(m.lines[f][n], now, v, routed)...)
		}
	}
	return after
}

// follow takes in what the kernel says of one line in one family. Routed: some line has a default route.
func (m *Monitor) follow(l *line, now kernelView, v *uplink.Binding, routed bool) []func() {
	before := l.kernel
	l.kernel = now
	l.gone = !now.source.IsValid()
	if before != now {
		l.outdate()
		l.login = false // it may be another network now
	}
	switch {
	case l.gone:
		reason := v.Problem
		if reason == "" {
			reason = "it has no usable " + l.Family.String() + " address"
		}
		become := m.become(l, Down, reason)
		if !before.known && v.Families != 0 {
			return nil // a line of the other family only: nobody misses this one
		}
		return []func(){become}
	case !before.known && routed && !now.routed:
		return m.suspect(l, "it has no default route")
	case !before.known:
		if len(m.probes) > 0 {
			m.check(l)
		}
	case !before.source.IsValid():
		// Back, but its network may not be ready. Where nothing can tell, connections have to.
		if len(m.proven(l)) == 0 {
			return []func(){m.become(l, Up, "")}
		}
		become := m.become(l, Suspect, "it has come back, and is being checked")
		m.check(l)
		return []func(){become}
	case before.routed && !now.routed:
		return m.suspect(l, "its default route is gone")
	case before != now && l.State != Up:
		m.check(l)
	}
	return nil
}
