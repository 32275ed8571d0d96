package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"dispatch/cmd/dispatch/internal/config"
	"dispatch/cmd/dispatch/internal/gateway"
	"dispatch/dispatcher"
	"dispatch/dispatcher/doctor"
	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/policy"
	"dispatch/dispatcher/uplink"
)

type explainCommand struct {
	Target  string   `arg:"" name:"host:port" help:"Where a connection is to go: example.com:443, [2001:db8::1]:443."`
	Uplinks []string `arg:"" optional:"" name:"uplink" help:"The uplinks, as for start. Without any: those of the running gateway, or those start would use."`
	Gateway string   `default:":8080" placeholder:"ADDR" help:"Where the running gateway listens on this machine; it tells its lines and their states (default ${default})."`
	DNS     string   `name:"dns" placeholder:"SERVER,..." help:"Ask these DNS servers, as for start."`
}

// Run tells which way a connection would take, and why. It asks for the host's addresses, and connects to nothing else.
func (c *explainCommand) Run(ctx context.Context, to terminal) error {
	q, at, err := c.understand()
	if err != nil {
		return err
	}
	var noStatus error
	q.Status, noStatus = gateway.Ask(ctx, at)
	e, err := gateway.Explain(ctx, q)
	if errors.Is(err, dispatcher.ErrNoUplink) {
		return errors.Join(err, printOthers(to.out, e))
	}
	if err != nil {
		return ofLines(err)
	}
	if err := printHops(to.out, e.Hops); err != nil {
		return err
	}
	return errors.Join(printOthers(to.out, e), printStates(to.out, at, q.Status, noStatus))
}

// printStates tells what a running gateway has found out about its lines.
func printStates(out io.Writer, at netip.AddrPort, s gateway.Status, noStatus error) error {
	if noStatus != nil {
		_, err := fmt.Fprintf(out, "the lines' states are not known, for no gateway tells them at %s (%v); all are taken for up\n", at, noStatus)
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "states, by the gateway at %s\n", at)
	for _, l := range s.Lines {
		reason := ""
		if l.Reason != "" {
			reason = ": " + l.Reason
		}
		fmt.Fprintf(w, "  %s\t%s\t%s since %s%s\n", l.Uplink, l.Family, l.State, l.Since.Local().Format(time.DateTime), reason)
	}
	return w.Flush()
}

// understand returns what the user has asked, and where the running gateway listens.
func (c *explainCommand) understand() (q gateway.Question, at netip.AddrPort, err error) {
	target, err := doctor.ParseTarget(c.Target)
	if err != nil {
		return q, at, &usageError{err}
	}
	q.Request = dispatcher.Request{Host: target.Host, Port: target.Port}
	if q.DNS, err = config.ParseDNS(c.DNS); err != nil {
		return q, at, &usageError{err}
	}
	if q.Uplinks, err = uplink.ParseSpecs(c.Uplinks); err != nil {
		return q, at, &usageError{err}
	}
	at, err = config.ParseAddrPort(c.Gateway, netip.Addr{})
	switch {
	case err != nil:
		return q, at, usagef("--gateway: %w", err)
	case at.Port() == 0:
		return q, at, usagef("--gateway: %q: nothing listens on port 0; write the port that 'dispatch start' printed", c.Gateway)
	}
	return q, config.ReachedAt(at), nil
}

// printHops tells the order in which a first connection would try, and the rules that decided.
func printHops(out io.Writer, hops []gateway.Hop) error {
	sum, best := 0, -1 // of the weights in the best band that there is
	for _, h := range hops {
		if h.Line == nil {
			continue
		}
		if best < 0 {
			best = h.Band
		}
		if h.Band == best {
			sum += h.Line.Weight
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "a new connection would try, in this order (the next one begins with another, by the shares)")
	for n, h := range hops {
		name, share := dispatcher.Direct, "not bound to a line\t"
		if h.Line != nil {
			name, share = h.Uplink.Name(), fmt.Sprintf("weight %d\tif all else fails\t", h.Line.Weight)
			if h.Band == best {
				share = fmt.Sprintf("weight %d\tshare %.1f %%\t", h.Line.Weight, 100*float64(h.Line.Weight)/float64(sum))
			}
		}
		var ways []string
		for _, dst := range h.Destinations {
			way := dst.String()
			if h.Line != nil {
				way += " from " + h.Line.Source(machine.FamilyOf(dst.Addr())).String()
			}
			ways = append(ways, way)
		}
		fmt.Fprintf(w, "  %d.\t%s\t%s%s\n", n+1, name, share, strings.Join(ways, ", then "))
	}
	said := make(map[policy.Rule]bool)
	for _, h := range hops {
		if !said[h.Rule] {
			said[h.Rule] = true
			fmt.Fprintf(w, "by the rule %q: the destination %s\n", h.Rule, h.Rule.Explain())
		}
	}
	return w.Flush()
}

// printOthers tells of the lines that do not reach the host, and why.
func printOthers(out io.Writer, e gateway.Explanation) error {
	used := make(map[*uplink.Uplink]bool)
	wanted, direct := machine.Family(0), false
	for _, h := range e.Hops {
		used[h.Uplink] = true
		direct = direct || h.Uplink == nil
		for _, dst := range h.Destinations {
			wanted |= machine.FamilyOf(dst.Addr())
		}
	}
	var left []string
	for _, l := range e.Lines {
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
	for _, name := range e.Gone {
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
