package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"time"

	"dispatch/dispatcher/health"
	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
	"dispatch/resolver"
)

type startCommand struct {
	Uplinks []string `arg:"" optional:"" name:"uplink" help:"An interface or a local address, with an optional weight: eth0, eth0@7, 192.0.2.7/3. Without any: every interface that is up and has a default route, tunnels and virtual ones only where there is no other."`

	SOCKS []string `name:"socks" placeholder:"ADDR" help:"Listen for SOCKS here; may be repeated; 'off' for none (default :1080)."`
	HTTP  []string `name:"http" placeholder:"ADDR" help:"Listen for HTTP proxy clients here; may be repeated; 'off' for none (default :8080)."`
	IP    string   `name:"ip" default:"127.0.0.1" placeholder:"ADDRESS" help:"The address that :PORT listens on (default ${default})."`
	Port  *uint16  `placeholder:"N" help:"Short for --socks :N."`

	DNS              string        `name:"dns" placeholder:"SERVER,..." help:"Ask these DNS servers, through the uplinks, instead of the system's resolver."`
	Probe            []string      `sep:"none" placeholder:"TARGET" help:"Find out with this target whether an uplink works: tcp://HOST:PORT, or http://HOST/PATH, with #STATUS where another than 200 to 299 is right; may be repeated. Without any, with destinations that lately worked."`
	ManageRoutes     bool          `help:"Keep a policy route for every line while running, as 'doctor --fix' installs for good (Linux, as root)."`
	Grace            time.Duration `default:"5s" help:"How long sessions may go on after Ctrl-C (default ${default}). A second Ctrl-C ends them at once."`
	HandshakeTimeout time.Duration `default:"10s" help:"How long a client may take to say what it wants (default ${default})."`
	LogFile          string        `placeholder:"FILE" help:"Log to this file, - for standard error (default: dispatch.log in your state directory)."`
	LogLevel         string        `default:"info" placeholder:"LEVEL" help:"Log from this level: debug, info, warn, error (default ${default})."`
}

// plan is a startCommand with all its values understood.
type plan struct {
	specs       []uplink.Spec
	socks, http []netip.AddrPort
	dns         []netip.AddrPort
	probes      []health.Probe
	routes      bool // are managed
	grace       time.Duration
	handshake   time.Duration
}

// plan checks everything that can be checked before anything is started.
func (c *startCommand) plan() (plan, error) {
	p := plan{grace: c.Grace, handshake: c.HandshakeTimeout, routes: c.ManageRoutes}
	host, err := netip.ParseAddr(c.IP)
	if err != nil {
		return plan{}, usagef("--ip: %q is not an IP address; give one of this machine's, such as 127.0.0.1", c.IP)
	}
	if c.Port != nil {
		if c.SOCKS != nil {
			return plan{}, usagef("--port %d and --socks both say where to listen for SOCKS; give one of them", *c.Port)
		}
		c.SOCKS = []string{":" + strconv.Itoa(int(*c.Port))}
	}
	if c.SOCKS == nil {
		c.SOCKS = []string{":1080"}
	}
	if c.HTTP == nil {
		c.HTTP = []string{":8080"}
	}
	if p.socks, err = parseListen("--socks", c.SOCKS, host); err != nil {
		return plan{}, err
	}
	if p.http, err = parseListen("--http", c.HTTP, host); err != nil {
		return plan{}, err
	}
	for _, a := range p.socks {
		for _, b := range p.http {
			if a == b && a.Port() != 0 {
				return plan{}, usagef("--socks and --http both name %s; one is enough, for each port serves both protocols: turn one 'off'", a)
			}
		}
	}
	switch {
	case len(p.socks)+len(p.http) == 0:
		return plan{}, usagef("--socks and --http are both off; leave at least one on")
	case c.Grace < 0:
		return plan{}, usagef("--grace: %s is negative; write 0s to end sessions at once", c.Grace)
	case c.HandshakeTimeout <= 0:
		return plan{}, usagef("--handshake-timeout: %s is not a time a client could keep; write one such as 10s", c.HandshakeTimeout)
	}
	if c.DNS != "" {
		if p.dns, err = resolver.ParseServers(c.DNS); err != nil {
			return plan{}, usagef("--dns: %w", err)
		}
	}
	if p.probes, err = parseProbes(c.Probe); err != nil {
		return plan{}, err
	}
	if p.specs, err = uplink.ParseSpecs(c.Uplinks); err != nil {
		return plan{}, &usageError{err}
	}
	return p, nil
}

// Run starts the gateway and serves until a signal ends it.
func (c *startCommand) Run(ctx context.Context, cli *commands, to terminal) (err error) {
	p, err := c.plan()
	if err != nil {
		return err
	}
	level, err := parseLevel(c.LogLevel)
	if err != nil {
		return err
	}
	lines, err := chooseUplinks(p.specs)
	if err != nil {
		return err
	}
	log, err := openLog(to, cli.Debug, c.LogFile, level)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	// From the first line of output on, a signal is a request to end, not to die.
	end, snapshot := make(chan os.Signal, 2), make(chan os.Signal, 1)
	notifySignals(end, snapshot)
	defer signal.Stop(end)
	defer signal.Stop(snapshot)
	g, err := newGateway(p, lines, log.logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	if p.routes {
		if err := g.manageRoutes(); err != nil {
			return err
		}
	} else {
		g.clearRoutes()
	}
	if err := g.listen(ctx, p); err != nil {
		return err
	}
	if err := printStart(to, g, log.where); err != nil {
		log.logger.Warn("printing failed", "error", err) // to serve does not take a reader
	}
	g.warnOfLines(ctx, to)
	if len(p.specs) == 0 {
		g.tellMissed(to)
	}
	return g.serve(p.grace, to, end, snapshot)
}

// chooseUplinks makes the uplinks the user named, or, for none, the automatic choice.
func chooseUplinks(specs []uplink.Spec) (*uplink.Fleet, error) {
	table := new(machine.Table)
	if len(specs) > 0 {
		lines, err := uplink.NewFleet(table, specs)
		if errors.Is(err, uplink.ErrNoMatch) {
			return nil, &usageError{err}
		}
		return lines, err
	}
	interfaces, err := table.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, choice := range uplink.Automatic(interfaces) {
		if choice.Use {
			specs = append(specs, uplink.Spec{Name: choice.Interface.Name, Weight: 1})
		}
	}
	if len(specs) == 0 {
		return nil, errors.New("no interface can be used: none is up and has a usable address; 'dispatch list --all' shows why")
	}
	return uplink.NewFleet(table, specs)
}

// serve accepts clients until a signal asks to end: the first lets sessions finish within grace, the second does not.
func (g *gateway) serve(grace time.Duration, to terminal, end, snapshot <-chan os.Signal) error {
	defer g.follow()()
	defer adaptProcessors(g.log)()
	g.server.Start()
	for {
		select {
		case <-snapshot:
			logSnapshot(g.log, g.dispatcher.Snapshot())
			logHealth(g.log, g.health.Statuses())
		case <-end:
			live := g.dispatcher.Snapshot().All.Live
			if live > 0 && grace > 0 {
				if _, err := fmt.Fprintf(to.err, "stopping: sessions have %s to finish (%d now); press Ctrl-C again to end them at once\n", grace, live); err != nil {
					g.log.Warn("printing failed", "error", err)
				}
			}
			return g.stop(grace, end)
		}
	}
}

// recordsWithin is how long the end waits for the records of sessions that were cut.
const recordsWithin = 500 * time.Millisecond

// stop ends the listeners within grace, or at once on a further signal.
func (g *gateway) stop(grace time.Duration, again <-chan os.Signal) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	done := make(chan int, 1)
	go func() { done <- g.server.Shutdown(ctx) }()
	var cut int
	select {
	case cut = <-done:
	case <-again:
		cancel()
		cut = <-done
	}
	// The sessions that were cut write their records now.
	for end := time.Now().Add(recordsWithin); g.dispatcher.Snapshot().All.Live > 0 && time.Now().Before(end); {
		time.Sleep(recordsWithin / 100)
	}
	logSnapshot(g.log, g.dispatcher.Snapshot())
	g.log.Info("stopped", "sessions_cut", cut)
	return nil
}
