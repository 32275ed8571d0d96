package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"dispatch/dispatcher"
	"dispatch/dispatcher/doctor"
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

// follow tells the other parts of what the kernel tells of links, addresses and routes, until the returned function is
// called, which waits for its end.
func (g *gateway) follow() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() { g.lines.Watch(ctx, g.log, g.changed) })
	if g.routes != nil {
		following.Go(func() { g.renewRoutes(ctx) })
	}
	return func() {
		cancel()
		following.Wait()
	}
}

// changed takes in a change of what the uplinks stand for.
func (g *gateway) changed(now *uplink.View) {
	if g.routes != nil {
		g.renewRoutesOnce()
	}
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

// manageRoutes installs the lines' policy routes. From now on changed renews them, and close removes them.
func (g *gateway) manageRoutes() error {
	if err := doctor.CanChangeRoutes(); err != nil {
		return fmt.Errorf("--manage-routes: %w", err)
	}
	g.routes = doctor.NewRoutes()
	return g.applyRoutes()
}

// clearRoutes removes the policy routes that a run has left behind which could not do so itself. That is worth a try only
// to one that may, and no reason not to start.
func (g *gateway) clearRoutes() {
	if doctor.CanChangeRoutes() != nil {
		return
	}
	left, err := doctor.RemoveLeft()
	if err != nil {
		g.log.Warn("removing the policy routes of an earlier run failed", "error", err)
	} else if left {
		g.log.Info("policy routes that an earlier run had left behind were removed")
	}
}

// renewEvery is how often the policy routes are looked at without any news: somebody may have removed them in a way that
// leaves the lines as they were, or renewing them may have failed.
const renewEvery = 30 * time.Second

func (g *gateway) renewRoutes(ctx context.Context) {
	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			g.renewRoutesOnce()
		}
	}
}

func (g *gateway) renewRoutesOnce() {
	if err := g.applyRoutes(); err != nil {
		g.log.Warn("renewing the policy routes failed", "error", err)
	}
}

func (g *gateway) applyRoutes() error {
	g.routesMu.Lock()
	defer g.routesMu.Unlock()
	missing, err := g.routes.Apply(g.lines.Specs()...)
	if err != nil {
		return fmt.Errorf("--manage-routes: %w", err)
	}
	if slices.Equal(missing, g.routeless) {
		return nil // told already
	}
	g.routeless = missing
	for _, m := range missing {
		family := ""
		if m.Family != 0 {
			family = m.Family.String()
		}
		g.log.Warn("no policy route for a line", "uplink", m.Uplink, "family", family, "problem", m.Problem)
	}
	return nil
}
