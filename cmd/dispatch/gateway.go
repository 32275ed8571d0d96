package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"text/tabwriter"

	"dispatch/dispatcher"
	"dispatch/dispatcher/doctor"
	"dispatch/dispatcher/health"
	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/policy"
	"dispatch/dispatcher/uplink"
	"dispatch/listeners"
	"dispatch/listeners/httpproxy"
	"dispatch/listeners/socks"
	"dispatch/resolver"
)

// gateway is the rooms of the house, wired.
type gateway struct {
	lines      *uplink.Fleet
	names      *resolver.Resolver
	dispatcher *dispatcher.Dispatcher
	server     *listeners.Server
	http       *httpproxy.Handler
	health     *health.Monitor
	policy     *policy.Local
	routes     *doctor.Routes   // nil: not managed
	routesMu   sync.Mutex       // held while they are applied
	routeless  []doctor.Missing // what was last said of lines without any
	log        *slog.Logger
	bound      []boundListener
}

type boundListener struct {
	kind listeners.Kind
	at   netip.AddrPort
}

func newGateway(p plan, lines *uplink.Fleet, log *slog.Logger) (*gateway, error) {
	g := &gateway{lines: lines, policy: new(policy.Local), log: log}
	g.health = health.New(health.Config{Uplinks: lines.Uplinks(), Logger: log})
	names, err := resolver.New(resolver.Config{
		Servers:   p.dns,
		Dialer:    func() resolver.DialFunc { return lines.ServerDialer(g.health.Bands) },
		Reachable: lines.Reaches,
		Logger:    log,
	})
	if err != nil {
		return nil, fmt.Errorf("set up the resolver: %w", err)
	}
	g.names = names
	g.dispatcher = dispatcher.New(dispatcher.Config{
		Fleet: lines, Resolver: lookup(names), Policy: g.policy, Bands: g.health, Observer: g.health, Logger: log,
	})
	g.http = httpproxy.New(httpproxy.Config{
		Dispatcher: g.dispatcher, Status: g.status, HandshakeTimeout: p.handshake, Logger: log,
	})
	g.server = listeners.New(listeners.Config{
		SOCKS: socks.New(g.dispatcher, log), HTTP: g.http, HandshakeTimeout: p.handshake, Logger: log,
	})
	g.health.Start(p.probes, names.Lookup, func(s health.Status) {
		g.http.Avoid(func(c *dispatcher.Conn) bool { return c.Uplink() == s.Uplink && c.Family() == s.Family }, s.State == health.Down)
	})
	return g, nil
}

// lookup makes the resolver speak the dispatcher's errors.
func lookup(names *resolver.Resolver) dispatcher.Resolver {
	return dispatcher.ResolverFunc(func(ctx context.Context, host string) ([]netip.Addr, error) {
		addrs, err := names.Lookup(ctx, host)
		if errors.Is(err, resolver.ErrNotFound) || errors.Is(err, resolver.ErrInvalidName) {
			return nil, fmt.Errorf("%w: %w", dispatcher.ErrNotFound, err)
		}
		return addrs, err
	})
}

// listen binds all addresses, or none.
func (g *gateway) listen(ctx context.Context, p plan) error {
	for _, l := range []struct {
		kind      listeners.Kind
		flag      string
		addresses []netip.AddrPort
	}{{listeners.SOCKS, "--socks", p.socks}, {listeners.HTTP, "--http", p.http}} {
		for _, address := range l.addresses {
			at, err := g.server.Listen(ctx, l.kind, address)
			if err != nil {
				return fmt.Errorf("%w; choose another address with %s, or end what uses this one", err, l.flag)
			}
			g.policy.Protect(at)
			g.bound = append(g.bound, boundListener{l.kind, at})
		}
	}
	return nil
}

// close ends everything, at once. Harmless after a graceful stop.
func (g *gateway) close() error {
	g.server.Close()
	g.dispatcher.ResetAll()
	g.health.Close()
	err := errors.Join(g.http.Close(), g.names.Close())
	if g.routes != nil {
		err = errors.Join(err, g.routes.Remove())
	}
	return err
}

// printStart tells what is listened on, what is dispatched to, and what to expect of it.
func printStart(to terminal, g *gateway, log string) error {
	view, err := g.lines.View()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(to.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "listening (each port understands SOCKS4, SOCKS4a, SOCKS5 and HTTP)")
	for _, b := range g.bound {
		note := ""
		if b.kind == listeners.HTTP {
			note = "\tautomatic configuration: http://" + reachable(b.at).String() + "/proxy.pac"
		}
		fmt.Fprintf(w, "  %s\t%s%s\n", b.kind, b.at, note)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	sum := 0
	for _, l := range view.Lines {
		sum += l.Weight
	}
	fmt.Fprintln(w, "dispatching to")
	for _, l := range view.Lines {
		about := ""
		for _, f := range []machine.Family{machine.IPv4, machine.IPv6} {
			if source := l.Source(f); source.IsValid() {
				about += " " + source.String()
			}
		}
		if l.Problem != "" {
			about = " not now: " + l.Problem
		}
		fmt.Fprintf(w, "  %s\tweight %d\t%.1f %%\t%s\n", l.Uplink.Name(), l.Weight,
			100*float64(l.Weight)/float64(sum), about[min(1, len(about)):])
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "log: %s\n", log)
	fmt.Fprintln(w, "one connection uses one line; to see the sum of the lines, use several at once, as browsers and download managers do (curl --parallel --parallel-immediate --http1.1, aria2c -x 8)")
	if err := w.Flush(); err != nil {
		return err
	}
	for _, b := range g.bound {
		if !b.at.Addr().IsLoopback() {
			fmt.Fprintf(to.err, "warning: %s is open to everyone who can reach this machine; they can use your lines\n", b.at)
		}
	}
	return nil
}

// reachable is where a listener is reached from this machine: one on all addresses by loopback.
func reachable(at netip.AddrPort) netip.AddrPort {
	switch at.Addr() {
	case netip.IPv4Unspecified(), netip.IPv6Unspecified():
		return netip.AddrPortFrom(loopback, at.Port())
	}
	return at
}

// logSnapshot writes the accounts, one record each.
func logSnapshot(log *slog.Logger, s dispatcher.Snapshot) {
	log.Info("snapshot", "all", s.All)
	for _, u := range s.Uplinks {
		log.Info("snapshot of an uplink", "uplink", u.Name, "account", u.Account)
	}
	for _, l := range s.Listeners {
		log.Info("snapshot of a listener", "listener", l.Name, "account", l.Account)
	}
}
