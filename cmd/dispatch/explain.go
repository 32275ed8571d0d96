package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"dispatch/dispatcher"
	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/policy"
	"dispatch/dispatcher/uplink"
	"dispatch/resolver"
)

type explainCommand struct {
	Target  string   `arg:"" name:"host:port" help:"Where a connection is to go: example.com:443, [2001:db8::1]:443."`
	Uplinks []string `arg:"" optional:"" name:"uplink" help:"The uplinks, as for start. Without any: those of the running gateway, or those start would use."`
	Gateway string   `default:":8080" placeholder:"ADDR" help:"Where the running gateway listens on this machine; it tells its lines and their states (default ${default})."`
	DNS     string   `name:"dns" placeholder:"SERVER,..." help:"Ask these DNS servers, as for start."`
}

// Run tells which way a connection would take, and why. It asks for the host's addresses, and connects to nothing else.
func (c *explainCommand) Run(ctx context.Context, to terminal) (err error) {
	q, err := c.understand()
	if err != nil {
		return err
	}
	states, silence := ask(ctx, q.gateway)
	specs, gone := q.specs, []string(nil)
	if len(specs) == 0 && len(states.Lines) > 0 {
		if specs, gone, err = states.specs(); err != nil {
			return err
		}
	}
	lines, err := chooseUplinks(specs)
	if err != nil {
		return err
	}
	bands := told(states, lines)
	names, err := resolver.New(resolver.Config{
		Servers:   q.servers,
		Dialer:    func() resolver.DialFunc { return lines.ServerDialer(bands.Bands) },
		Reachable: lines.Reaches,
	})
	if err != nil {
		return fmt.Errorf("set up the resolver: %w", err)
	}
	defer func() { err = errors.Join(err, names.Close()) }()
	d := dispatcher.New(dispatcher.Config{Fleet: lines, Resolver: lookup(names), Bands: bands})

	view, err := lines.View()
	if err != nil {
		return err
	}
	route, err := d.Route(ctx, &q.request)
	if errors.Is(err, dispatcher.ErrNoUplink) {
		return errors.Join(err, printLines(to.out, view, nil, gone))
	}
	if err != nil {
		return err
	}
	if err := printRoute(to.out, view, route); err != nil {
		return err
	}
	return errors.Join(printLines(to.out, view, route, gone), printStates(to.out, q.gateway, states, silence))
}

// printStates tells what a running gateway has found out about its lines.
func printStates(out io.Writer, gateway netip.AddrPort, s status, silence error) error {
	if silence != nil {
		_, err := fmt.Fprintf(out, "the lines' states are not known, for no gateway tells them at %s (%v); all are taken for up\n", gateway, silence)
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "states, by the gateway at %s\n", gateway)
	for _, l := range s.Lines {
		reason := ""
		if l.Reason != "" {
			reason = ": " + l.Reason
		}
		fmt.Fprintf(w, "  %s\t%s\t%s since %s%s\n", l.Uplink, l.Family, l.State, l.Since.Local().Format(time.DateTime), reason)
	}
	return w.Flush()
}

// question is what the user has asked.
type question struct {
	request dispatcher.Request
	servers []netip.AddrPort
	specs   []uplink.Spec
	gateway netip.AddrPort
}

func (c *explainCommand) understand() (q question, err error) {
	host, port, err := net.SplitHostPort(c.Target)
	number, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || host == "" || number == 0 {
		return q, usagef("%q is not HOST:PORT; write one such as example.com:443", c.Target)
	}
	q.request = dispatcher.Request{Host: host, Port: uint16(number)}
	if c.DNS != "" {
		if q.servers, err = resolver.ParseServers(c.DNS); err != nil {
			return q, usagef("--dns: %w", err)
		}
	}
	if q.specs, err = uplink.ParseSpecs(c.Uplinks); err != nil {
		return q, &usageError{err}
	}
	q.gateway, err = c.parseGateway()
	return q, err
}

// parseGateway reads the address of a gateway as it was given to --http or --socks.
func (c *explainCommand) parseGateway() (netip.AddrPort, error) {
	at, err := parseAddrPort("--gateway", c.Gateway, loopback)
	if err == nil && at.Port() == 0 {
		err = usagef("--gateway: %q: nothing listens on port 0; write the port that 'dispatch start' printed", c.Gateway)
	}
	return reachable(at), err
}

// printRoute tells the order in which a first connection would try.
func printRoute(out io.Writer, view *uplink.View, route *dispatcher.Route) error {
	hops := route.Hops()
	weight := func(h dispatcher.Hop) int { return view.LineOf(h.Uplink).Weight }
	sum, best := 0, -1 // of the weights in the best band that there is
	for _, h := range hops {
		if h.Uplink == nil {
			continue
		}
		if best < 0 {
			best = h.Band
		}
		if h.Band == best {
			sum += weight(h)
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "a new connection would try, in this order (the next one begins with another, by the shares)")
	for n, h := range hops {
		name, share := dispatcher.Direct, "not bound to a line\t"
		if h.Uplink != nil {
			name, share = h.Uplink.Name(), fmt.Sprintf("weight %d\tif all else fails\t", weight(h))
			if h.Band == best {
				share = fmt.Sprintf("weight %d\tshare %.1f %%\t", weight(h), 100*float64(weight(h))/float64(sum))
			}
		}
		var ways []string
		for _, dst := range h.Destinations {
			way := dst.String()
			if h.Uplink != nil {
				way += " from " + view.LineOf(h.Uplink).Source(machine.FamilyOf(dst.Addr())).String()
			}
			ways = append(ways, way)
		}
		fmt.Fprintf(w, "  %d.\t%s\t%s%s\n", n+1, name, share, strings.Join(ways, ", then "))
	}
	told := make(map[policy.Rule]bool)
	for _, h := range hops {
		if !told[h.Rule] {
			told[h.Rule] = true
			fmt.Fprintf(w, "by the rule %q: the destination %s\n", h.Rule, h.Rule.Explain())
		}
	}
	return w.Flush()
}

// printLines tells of the lines that are not on the route, and why. A nil route has none.
func printLines(out io.Writer, view *uplink.View, route *dispatcher.Route, gone []string) error {
	used := make(map[*uplink.Uplink]bool)
	wanted, direct := machine.Family(0), false
	if route != nil {
		for _, h := range route.Hops() {
			used[h.Uplink] = true
			direct = direct || h.Uplink == nil
			for _, dst := range h.Destinations {
				wanted |= machine.FamilyOf(dst.Addr())
			}
		}
	}
	var left []string
	for n := range view.Lines {
		l := &view.Lines[n]
		if used[l.Uplink] || direct {
			continue
		}
		why := l.Problem
		switch {
		case why != "":
		case l.Families&wanted != 0:
			why = "the destination is on another uplink's own network"
		default:
			why = "it has only " + l.Families.String()
		}
		left = append(left, fmt.Sprintf("  %s\t%s\n", l.Uplink.Name(), why))
	}
	for _, name := range gone {
		left = append(left, fmt.Sprintf("  %s\tthe machine does not have it now\n", name))
	}
	if len(left) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "not by")
	for _, row := range left {
		fmt.Fprint(w, row)
	}
	return w.Flush()
}
