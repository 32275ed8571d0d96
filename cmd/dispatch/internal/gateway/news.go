package gateway

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"dispatch/dispatcher"
	"dispatch/dispatcher/uplink"
)

// follow tells the other parts of what the kernel tells of links, addresses and routes, until the returned function is
// called, which waits for its end.
func (g *Gateway) follow() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() { g.lines.Watch(ctx, g.log, g.changed) })
	following.Go(func() { g.dispatcher.Sample(ctx) })
	if g.routes != nil {
		following.Go(func() { g.routes.keep(ctx) })
	}
	return func() {
		cancel()
		following.Wait()
	}
}

// changed takes in a change of what the uplinks stand for.
func (g *Gateway) changed(now *uplink.View) {
	if g.routes != nil {
		g.routes.renew()
	}
	g.health.Kernel(now)
	g.http.Drop(func(c *dispatcher.Conn) bool { return c.Stranded(now) })
	if n := g.dispatcher.ResetStranded(now); n > 0 {
		g.log.Info("sessions on addresses that are gone were reset", "sessions", n)
	}
}

// Apply makes the lines consist of what specs name: see uplink.Fleet.Apply. The sessions of a line that is removed go on,
// but where its place is needed.
func (g *Gateway) Apply(specs []uplink.Spec) error {
	change, err := g.lines.Apply(specs)
	if err != nil {
		return err
	}
	view, err := g.lines.View()
	if err != nil {
		return err
	}
	g.changed(view)
	g.http.CloseIdle(func(c *dispatcher.Conn) bool { return slices.Contains(change.Removed, c.Uplink()) })
	for _, u := range change.Cut {
		g.log.Warn("sessions of a removed uplink were reset, for its place is needed", "uplink", u.Name(), "sessions", g.dispatcher.ResetLine(u))
	}
	g.log.Info("uplinks changed", "added", names(change.Added), "removed", names(change.Removed), "reweighed", names(change.Reweighed))
	return nil
}

func names(uplinks []*uplink.Uplink) slog.Value {
	all := make([]string, len(uplinks))
	for n, u := range uplinks {
		all[n] = u.Name()
	}
	return slog.AnyValue(all)
}
