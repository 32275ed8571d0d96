package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"text/tabwriter"
	"time"

	"dispatch/cmd/dispatch/internal/config"
	"dispatch/cmd/dispatch/internal/gateway"
	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
)

// gatewayFlags are those that a gateway is configured by: config.Flags with their names and help.
type gatewayFlags struct {
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
}

type startCommand struct {
	gatewayFlags

	LogFile  string `placeholder:"FILE" help:"Log to this file, - for standard error (default: dispatch.log in your state directory)."`
	LogLevel string `default:"info" placeholder:"LEVEL" help:"Log from this level: debug, info, warn, error (default ${default})."`
}

// Run starts the gateway and serves until a signal ends it.
func (c *startCommand) Run(ctx context.Context, cli *commands, to terminal) (err error) {
	settings, err := config.Flags(c.gatewayFlags).Config()
	if err != nil {
		return &usageError{err}
	}
	level, err := parseLevel(c.LogLevel)
	if err != nil {
		return err
	}
	lines, err := gateway.ChooseLines(settings.Uplinks)
	if err != nil {
		return ofLines(err)
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
	g, err := gateway.New(settings, lines, log.logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	if err := g.Start(ctx); err != nil {
		return err
	}
	defer gateway.AdaptProcessors(log.logger)()
	if err := errors.Join(printStart(to, g.State(), log.where), printWarnings(to, g.Examine(ctx), g.Unused())); err != nil {
		log.logger.Warn("printing failed", "error", err) // to serve does not take a reader
	}
	for {
		select {
		case <-snapshot:
			g.LogState()
		case <-end:
			if live := g.State().Sessions.All.Live; live > 0 && c.Grace > 0 {
				if _, err := fmt.Fprintf(to.err, "stopping: sessions have %s to finish (%d now); press Ctrl-C again to end them at once\n", c.Grace, live); err != nil {
					log.logger.Warn("printing failed", "error", err)
				}
			}
			shutdown(ctx, g, c.Grace, end)
			return nil
		}
	}
}

// ofLines makes it a mistake of the user's that the machine has no such line.
func ofLines(err error) error {
	if errors.Is(err, uplink.ErrNoMatch) {
		return &usageError{err}
	}
	return err
}

// shutdown ends the gateway within grace, or at once on a further signal.
func shutdown(ctx context.Context, g *gateway.Gateway, grace time.Duration, again <-chan os.Signal) {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	go func() {
		select {
		case <-again:
			cancel()
		case <-ctx.Done():
		}
	}()
	g.Shutdown(ctx)
}

// printStart tells what is listened on, what is dispatched to, and what to expect of it.
func printStart(to terminal, s gateway.State, log string) error {
	w := tabwriter.NewWriter(to.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "listening (each port understands SOCKS4, SOCKS4a, SOCKS5 and HTTP)")
	for _, l := range s.Listeners {
		note := ""
		if pac := l.PAC(); pac != "" {
			note = "\tautomatic configuration: " + pac
		}
		fmt.Fprintf(w, "  %s\t%s%s\n", l.Kind, l.Addr, note)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	sum := 0
	for _, l := range s.Lines {
		sum += l.Weight
	}
	fmt.Fprintln(w, "dispatching to")
	for _, l := range s.Lines {
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
	for _, l := range s.Listeners {
		if !l.Addr.Addr().IsLoopback() {
			fmt.Fprintf(to.err, "warning: %s is open to everyone who can reach this machine; they can use your lines\n", l.Addr)
		}
	}
	return nil
}

// printWarnings tells of lines that will not work or go past a VPN, and of what looks like a line and is not used.
func printWarnings(to terminal, lines, unused []gateway.Warning) error {
	for _, w := range lines {
		family := w.Family
		if family != "" {
			family += ": "
		}
		if _, err := fmt.Fprintf(to.err, "warning: %s: %s%s; 'dispatch doctor %s' tells more\n", w.Line, family, w.Text, word(w.Line)); err != nil {
			return err
		}
	}
	for _, w := range unused {
		if _, err := fmt.Fprintf(to.err, "not used: %s: %s; 'dispatch doctor %s' tells more\n", w.Line, w.Text, word(w.Line)); err != nil {
			return err
		}
	}
	return nil
}

// word is a line's name as one word of a command: those of Windows have spaces.
func word(name string) string {
	if strings.ContainsAny(name, " *()&;'") {
		return `"` + name + `"`
	}
	return name
}
