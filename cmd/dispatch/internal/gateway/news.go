package gateway

import (
	"context"
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
