package gateway

import (
	"context"
	"time"

	"dispatch/dispatcher/doctor"
	"dispatch/dispatcher/machine"
)

// examineWithin bounds the look at the lines that start takes; it contacts nobody, so it needs a fraction of this.
const examineWithin = 200 * time.Millisecond

// Warning is what a user should know of a line, or of an interface that is none.
type Warning struct {
	Line   string
	Family string // empty for both
	Text   string
}

// Examine says which lines will not work, as far as can be seen without asking anybody, and which go past a VPN. It logs
// that as well.
func (g *Gateway) Examine(ctx context.Context) []Warning {
	ctx, cancel := context.WithTimeout(ctx, examineWithin)
	defer cancel()
	lines, err := doctor.Quick(ctx, g.lines.Specs())
	if err != nil {
		g.log.Warn("examining the lines failed", "error", err)
		return nil
	}
	var warnings []Warning
	for _, l := range lines {
		for _, f := range l.Findings {
			attrs := []any{"uplink", l.Uplink, "family", f.Family, "check", f.Check, "problem", f.Text}
			switch {
			case f.Status == doctor.Fail:
				g.log.Warn("line will not work", attrs...)
			case f.Check == doctor.CheckVPN:
				g.log.Warn("a VPN owns the default route", attrs...)
			default:
				continue
			}
			warnings = append(warnings, Warning{Line: l.Uplink, Family: f.Family, Text: f.Text})
		}
	}
	return warnings
}

// Unused names the connected interfaces that the automatic choice has left out, and why: whoever misses a line learns it.
// There are none where the user named the lines.
func (g *Gateway) Unused() []Warning {
	if len(g.config.Uplinks) > 0 {
		return nil
	}
	interfaces, err := new(machine.Table).Interfaces()
	if err != nil {
		g.log.Warn("looking for further lines failed", "error", err)
		return nil
	}
	var unused []Warning
	for _, c := range doctor.Missed(interfaces) {
		g.log.Info("interface is not used", "interface", c.Interface.Name, "reason", c.Reason)
		unused = append(unused, Warning{Line: c.Interface.Name, Text: c.Reason})
	}
	return unused
}
