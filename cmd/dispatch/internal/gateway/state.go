package gateway

import (
	"net/netip"

	"dispatch/cmd/dispatch/internal/config"
	"dispatch/cmd/dispatch/internal/pages"
	"dispatch/dispatcher"
	"dispatch/dispatcher/health"
	"dispatch/dispatcher/uplink"
	"dispatch/listeners"
)

// State is what a gateway has and does at one moment.
type State struct {
	// Listeners are the addresses that are listened on, in the order they were given, SOCKS first.
	Listeners []Listener
	// Lines is what the uplinks stand for, in the user's order. Empty if that cannot be read, which is logged.
	Lines []uplink.Binding
	// Health is the lines' states, by family.
	Health []health.Status
	// Sessions are the accounts.
	Sessions dispatcher.Snapshot
}

// Listener is an address that is listened on.
type Listener struct {
	Kind listeners.Kind
	Addr netip.AddrPort
}

// PAC is where this machine's programs get the automatic configuration; empty if the listener is not meant for HTTP.
func (l Listener) PAC() string {
	if l.Kind != listeners.HTTP {
		return ""
	}
	return "http://" + config.ReachedAt(l.Addr).String() + pages.PAC
}

// State returns the state of now.
func (g *Gateway) State() State {
	s := State{Listeners: g.listeners, Health: g.health.Statuses(), Sessions: g.dispatcher.Snapshot()}
	if view, err := g.lines.View(); err != nil {
		g.log.Warn("reading the lines failed", "error", err)
	} else {
		s.Lines = view.Bindings
	}
	return s
}

// LogState writes the accounts and the uplinks' states, one record each.
func (g *Gateway) LogState() {
	g.logSessions()
	for _, s := range g.health.Statuses() {
		g.log.Info("state of an uplink", "uplink", s.Uplink.Name(), "family", s.Family.String(), "state", s.State.String(),
			"since", s.Since, "reason", s.Reason)
	}
}

func (g *Gateway) logSessions() {
	s := g.dispatcher.Snapshot()
	g.log.Info("snapshot", "all", s.All)
	for _, u := range s.Uplinks {
		g.log.Info("snapshot of an uplink", "uplink", u.Name, "account", u.Account)
	}
	for _, l := range s.Listeners {
		g.log.Info("snapshot of a listener", "listener", l.Name, "account", l.Account)
	}
}
