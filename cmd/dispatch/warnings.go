package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"dispatch/dispatcher/doctor"
	"dispatch/dispatcher/machine"
)

// examineWithin bounds the look at the lines that start takes; it contacts nobody, so it needs a fraction of this.
const examineWithin = 200 * time.Millisecond

// word is a line's name as one word of a command: those of Windows have spaces.
func word(name string) string {
	if strings.ContainsAny(name, " *()&;'") {
		return `"` + name + `"`
	}
	return name
}

// warnOfLines says which lines will not work, as far as can be seen without asking anybody, and which go past a VPN.
func (g *gateway) warnOfLines(ctx context.Context, to terminal) {
	ctx, cancel := context.WithTimeout(ctx, examineWithin)
	defer cancel()
	lines, err := doctor.Quick(ctx, g.lines.Specs())
	if err != nil {
		g.log.Warn("examining the lines failed", "error", err)
		return
	}
	for _, l := range lines {
		for _, f := range l.Findings {
			if f.Status != doctor.Fail && f.Check != doctor.CheckVPN {
				continue
			}
			family := f.Family
			if family != "" {
				family += ": "
			}
			if f.Status == doctor.Fail {
				g.log.Warn("line will not work", "uplink", l.Uplink, "family", f.Family, "check", f.Check, "problem", f.Text)
			} else {
				g.log.Warn("a VPN owns the default route", "uplink", l.Uplink, "family", f.Family, "check", f.Check, "problem", f.Text)
			}
			if _, err := fmt.Fprintf(to.err, "warning: %s: %s%s; 'dispatch doctor %s' tells more\n", l.Uplink, family, f.Text, word(l.Uplink)); err != nil {
				g.log.Warn("printing failed", "error", err)
			}
		}
	}
}

// tellMissed names the connected interfaces that the automatic choice has left out: whoever misses a line learns why.
func (g *gateway) tellMissed(to terminal) {
	interfaces, err := new(machine.Table).Interfaces()
	if err != nil {
		g.log.Warn("looking for further lines failed", "error", err)
		return
	}
	for _, c := range doctor.Missed(interfaces) {
		name := c.Interface.Name
		g.log.Info("interface is not used", "interface", name, "reason", c.Reason)
		if _, err := fmt.Fprintf(to.err, "not used: %s: %s; 'dispatch doctor %s' tells more\n", name, c.Reason, word(name)); err != nil {
			g.log.Warn("printing failed", "error", err)
		}
	}
}
