package main

import (
	"context"
	"log/slog"
	"sync"

	"dispatch/dispatcher"
	"dispatch/dispatcher/health"
	"dispatch/dispatcher/uplink"
)

// parseProbes reads --probe.
func parseProbes(texts []string) ([]health.Probe, error) {
	var probes []health.Probe
	for _, text := range texts {
		p, err := health.ParseProbe(text)
		if err != nil {
			return nil, usagef("--probe: %w", err)
		}
		probes = append(probes, p)
	}
	return probes, nil
}

// newMonitor makes what watches over the uplinks' health.
func (g *gateway) newMonitor(probes []health.Probe) *health.Monitor {
	return health.New(health.Config{
		Uplinks: g.lines, Probes: probes, Resolve: g.names.Lookup, Logger: g.log,
		Changed: func(s health.Status) {
			g.http.Drop(func(c *dispatcher.Conn) bool { return c.Uplink() == s.Uplink })
		},
	})
}

// follow tells the other parts of what the kernel tells of links, addresses and routes, until the returned function is
// called, which waits for its end.
func (g *gateway) follow() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() { g.lines.Watch(ctx, g.log, g.changed) })
	return func() {
		cancel()
		following.Wait()
	}
}

// changed takes in a change of what the uplinks stand for.
func (g *gateway) changed(now *uplink.View) {
	g.health.Kernel(now)
	g.http.Drop(func(c *dispatcher.Conn) bool { return c.Stranded(now) })
	if n := g.dispatcher.ResetStranded(now); n > 0 {
		g.log.Info("sessions on addresses that are gone were reset", "sessions", n)
	}
}

// logHealth writes the uplinks' states, one record each.
func logHealth(log *slog.Logger, all []health.Status) {
	for _, s := range all {
		log.Info("state of an uplink", "uplink", s.Uplink.Name(), "family", s.Family.String(), "state", s.State.String(),
			"since", s.Since, "reason", s.Reason)
	}
}
