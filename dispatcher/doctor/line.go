package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
)

var families = []machine.Family{machine.IPv4, machine.IPv6}

// line is a line under examination.
type line struct {
	Line
	spec uplink.Spec
	// way dials through it; nil when the machine has no such interface or address.
	way *uplink.Uplink
	// iface and link are the interface it stands for, as uplink and as package net see it; nil when there is none.
	iface *machine.Interface
	link  *net.Interface
	// source of each family; missing where it has none.
	source map[machine.Family]netip.Addr
	// route is the default route that its sockets find, where they do.
	route map[machine.Family]machine.DefaultRoute
	// broken families need not be looked at further: they have a failure that explains all others.
	broken map[machine.Family]bool
}

func (l *line) note(s Status, c Check, f machine.Family, commands []string, format string, args ...any) {
	found := Finding{Check: c, Status: s, Text: fmt.Sprintf(format, args...), Commands: commands}
	if f == machine.IPv4 || f == machine.IPv6 {
		found.Family = f.String()
	}
	l.Findings = append(l.Findings, found)
}

func (l *line) pass(c Check, f machine.Family, format string, args ...any) {
	l.note(Pass, c, f, nil, format, args...)
}

func (l *line) warn(c Check, f machine.Family, commands []string, format string, args ...any) {
	l.note(Warn, c, f, commands, format, args...)
}

func (l *line) fail(c Check, f machine.Family, commands []string, format string, args ...any) {
	l.note(Fail, c, f, commands, format, args...)
}

// wants tells whether the line is meant to carry the family.
func (l *line) wants(f machine.Family) bool {
	return !l.spec.Addr.IsValid() || machine.FamilyOf(l.spec.Addr) == f
}

// examination is one call of Examine.
type examination struct {
	Options
	system // what one OS alone has to know

	interfaces []machine.Interface
	lines      []*line
}

func newExamination(specs []uplink.Spec, o Options) (*examination, error) {
	e := &examination{Options: o}
	table := new(machine.Table)
	var err error
	if e.interfaces, err = table.Interfaces(); err != nil {
		return nil, err
	}
	if len(specs) > 0 {
		for _, s := range specs {
			e.lines = append(e.lines, &line{Line: Line{Chosen: true}, spec: s})
		}
	} else {
		e.chooseLines()
	}
	for _, l := range e.lines {
		l.Uplink = l.spec.String()
		l.source, l.route = make(map[machine.Family]netip.Addr), make(map[machine.Family]machine.DefaultRoute)
		l.broken = make(map[machine.Family]bool)
		if err := e.resolve(table, l); err != nil {
			return nil, err
		}
	}
	if err := e.open(); err != nil {
		return nil, err
	}
	return e, nil
}

// Missed returns the interfaces that look like lines and are connected, and that the automatic choice leaves out all the
// same; their Reason says why.
func Missed(interfaces []machine.Interface) []uplink.Candidate {
	var missed []uplink.Candidate
	for _, c := range uplink.Automatic(interfaces) {
		if !c.Use && c.Interface.Up && looksLikeLine(c.Interface) {
			missed = append(missed, c)
		}
	}
	return missed
}

// chooseLines makes the automatic choice, and adds the interfaces that a user may miss in it.
func (e *examination) chooseLines() {
	for _, c := range uplink.Automatic(e.interfaces) {
		if c.Use || looksLikeLine(c.Interface) {
			e.lines = append(e.lines, &line{
				Line: Line{Chosen: c.Use, Reason: c.Reason},
				spec: uplink.Spec{Name: c.Interface.Name, Weight: 1},
			})
		}
	}
	slices.SortStableFunc(e.lines, func(a, b *line) int { return cmp.Compare(rank(a), rank(b)) })
}

func rank(l *line) int {
	if l.Chosen {
		return 0
	}
	return 1
}

// looksLikeLine leaves out loopback, and what only joins machines and containers here.
func looksLikeLine(i *machine.Interface) bool {
	switch i.Kind {
	case machine.KindLoopback:
		return false
	case machine.KindVirtual, machine.KindUnknown:
		return len(i.DefaultRoutes) > 0
	}
	return !isPort(i.Name)
}

// resolve finds out what the line stands for now. A Set of its own, as a Set refuses what does not exist, and that
// is a finding here.
func (e *examination) resolve(table *machine.Table, l *line) error {
	set, err := uplink.NewFleet(table, []uplink.Spec{l.spec})
	if errors.Is(err, uplink.ErrNoMatch) {
		return nil
	}
	if err != nil {
		return err
	}
	view, err := set.View()
	if err != nil {
		return err
	}
	now := &view.Bindings[0]
	l.way, l.Interface = set.Uplinks()[0], now.Device
	for n := range e.interfaces {
		if e.interfaces[n].Index == now.Index {
			l.iface = &e.interfaces[n]
			l.Kind = string(l.iface.Kind)
		}
	}
	for _, f := range families {
		if source := now.Source(f); source.IsValid() {
			l.source[f] = source
		}
	}
	link, err := net.InterfaceByIndex(now.Index)
	if err != nil {
		return fmt.Errorf("ask about interface %s: %w", now.Device, err)
	}
	l.link = link
	return nil
}

// report closes the examination.
func (e *examination) report() *Report {
	r := &Report{Lines: make([]Line, 0, len(e.lines))}
	for _, l := range e.lines {
		slices.SortStableFunc(l.Findings, func(a, b Finding) int {
			return cmp.Or(cmp.Compare(slices.Index(order, a.Check), slices.Index(order, b.Check)), cmp.Compare(a.Family, b.Family))
		})
		l.Usable = !slices.ContainsFunc(l.Findings, func(f Finding) bool { return f.Status == Fail })
		r.Lines = append(r.Lines, l.Line)
	}
	chosen := func(l Line) bool { return l.Chosen }
	broken := func(l Line) bool { return l.Chosen && !l.Usable }
	r.Usable = slices.ContainsFunc(r.Lines, chosen) && !slices.ContainsFunc(r.Lines, broken)
	return r
}

// unboundOwner returns the tunnel that connections leave by which are tied to nothing.
func (e *examination) unboundOwner(f machine.Family) *machine.Interface {
	p, err := machine.Lookup(machine.Far(f)[0], 0, netip.Addr{})
	if i := e.byIndex(p.Device); err == nil && i != nil && i.Kind == machine.KindTunnel {
		return i
	}
	return nil
}

func (e *examination) byIndex(index int) *machine.Interface {
	for n := range e.interfaces {
		if e.interfaces[n].Index == index {
			return &e.interfaces[n]
		}
	}
	return nil
}
