// Package gateway is the running program: it wires the rooms of the house, follows what the kernel tells of the lines,
// and starts and ends all in the right order. Whoever runs it decides what it is made of, when it ends, and what is
// printed of it.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"dispatch/cmd/dispatch/internal/config"
	"dispatch/cmd/dispatch/internal/pages"
	"dispatch/dispatcher"
	"dispatch/dispatcher/health"
	"dispatch/dispatcher/policy"
	"dispatch/dispatcher/uplink"
	"dispatch/listeners"
	"dispatch/listeners/httpproxy"
	"dispatch/listeners/socks"
	"dispatch/resolver"
)

// Gateway is the rooms of the house, wired. Safe for concurrent use, but for Start.
type Gateway struct {
	config     config.Config
	log        *slog.Logger
	lines      *uplink.Fleet
	health     *health.Monitor
	names      *resolver.Resolver
	policy     *policy.Local
	dispatcher *dispatcher.Dispatcher
	http       *httpproxy.Handler
	server     *listeners.Server

	routes    *lineRoutes // nil: not managed
	listeners []Listener
	unfollow  func() // nil before Start has come so far
}

// New makes a gateway over lines, each part from those made before it. It listens on nothing yet. The caller closes what it
// gets.
func New(c config.Config, lines *uplink.Fleet, log *slog.Logger) (*Gateway, error) {
	monitor := health.New(health.Config{Uplinks: lines.Uplinks(), Logger: log})
	names, err := newResolver(c.DNS, lines, monitor.Bands, log)
	if err != nil {
		return nil, err
	}
	rules := new(policy.Local)
	dispatch := dispatcher.New(dispatcher.Config{
		Fleet: lines, Resolver: names, Policy: rules, Bands: monitor, Observer: monitor, Logger: log,
	})
	web := httpproxy.New(httpproxy.Config{
		Dispatcher: dispatch, HandshakeTimeout: c.HandshakeTimeout, Logger: log,
		Own: pages.New(func() any { return statusOf(lines, monitor) }, log),
	})
	server := listeners.New(listeners.Config{
		SOCKS: socks.New(dispatch, log), HTTP: web, HandshakeTimeout: c.HandshakeTimeout, Logger: log,
	})
	monitor.Start(c.Probes, names.Lookup, func(s health.Status) {
		web.Avoid(func(c *dispatcher.Conn) bool { return c.Uplink() == s.Uplink && c.Family() == s.Family }, s.State == health.Down)
	})
	g := &Gateway{
		config: c, log: log, lines: lines, health: monitor, names: names, policy: rules, dispatcher: dispatch, http: web, server: server,
	}
	if c.ManageRoutes {
		g.routes = newLineRoutes(lines, log)
	}
	return g, nil
}

// newResolver makes what resolves names: with servers, by the best of the lines.
func newResolver(servers []netip.AddrPort, lines *uplink.Fleet, bands func(uplink.Family) []uplink.IDs, log *slog.Logger) (*resolver.Resolver, error) {
	names, err := resolver.New(resolver.Config{
		Servers:   servers,
		Dialer:    func() resolver.DialFunc { return lines.ServerDialer(bands) },
		Reachable: lines.Reaches,
		Logger:    log,
	})
	if err != nil {
		return nil, fmt.Errorf("set up the resolver: %w", err)
	}
	return names, nil
}

// Start installs the lines' policy routes if they are to be managed, listens on all addresses, and serves. It is called
// once. After an error nothing is served; Close then takes back what had been done.
func (g *Gateway) Start(ctx context.Context) error {
	if g.routes == nil {
		clearRoutes(g.log)
	} else if err := g.routes.install(); err != nil {
		return err
	}
	if err := g.listen(ctx); err != nil {
		return err
	}
	g.unfollow = g.follow()
	g.server.Start()
	return nil
}

// listen binds all addresses.
func (g *Gateway) listen(ctx context.Context) error {
	for _, l := range []struct {
		kind      listeners.Kind
		addresses []netip.AddrPort
	}{{listeners.SOCKS, g.config.SOCKS}, {listeners.HTTP, g.config.HTTP}} {
		for _, address := range l.addresses {
			at, err := g.server.Listen(ctx, l.kind, address, dispatcher.Profile{})
			if err != nil {
				return fmt.Errorf("%w; choose another address with --%s, or end what uses this one", err, l.kind)
			}
			g.policy.Protect(at)
			g.listeners = append(g.listeners, Listener{l.kind, at})
		}
	}
	return nil
}

// recordsWithin is how long the end waits for the records of sessions that were cut.
const recordsWithin = 500 * time.Millisecond

// Shutdown stops listening, lets the sessions finish until ctx ends, and cuts the others. When the records of all are
// written it returns how many those were.
func (g *Gateway) Shutdown(ctx context.Context) (cut int) {
	cut = g.server.Shutdown(ctx)
	// The sessions that were cut write their records now.
	for end := time.Now().Add(recordsWithin); g.dispatcher.Snapshot().All.Live > 0 && time.Now().Before(end); {
		time.Sleep(recordsWithin / 100)
	}
	g.logSessions()
	g.log.Info("stopped", "sessions_cut", cut)
	return cut
}

// Close ends everything, at once. Harmless after Shutdown.
func (g *Gateway) Close() error {
	if g.unfollow != nil {
		g.unfollow()
	}
	g.server.Close()
	g.dispatcher.ResetAll()
	g.health.Close()
	err := errors.Join(g.http.Close(), g.names.Close())
	if g.routes != nil {
		err = errors.Join(err, g.routes.remove())
	}
	return err
}
