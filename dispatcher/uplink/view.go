package uplink

import (
	"fmt"
	"net/netip"

	"dispatch/dispatcher/machine"
)

// View is what the uplinks of a Set stand for in one reading of the interfaces. It is never changed.
type View struct {
	// Lines has one entry an uplink, in the Set's order.
	Lines []Line

	reading *machine.Reading
	own     map[netip.Addr]struct{}
	onLink  []onLink
}

// Line is an uplink at one moment: the interface and the source addresses its connections leave from.
type Line struct {
	Uplink *Uplink
	// Device and Index name the interface; empty and 0 when it is gone.
	Device string
	Index  int
	// Families it has a usable source address of, while the interface is up; 0 makes it ineligible.
	Families Family
	// Problem says why Families is 0; empty otherwise.
	Problem string
	// Routed is the families that have a default route by the interface: see Interface.DefaultRoutes, so on Linux
	// in any table that a rule leads to from one of its addresses. For information only, it does not make a line
	// eligible or not: a private network behind it may be all that is wanted.
	Routed Family

	source4, source6 netip.Addr
	routes           string // all default routes, so that a change of any is noticed: policy routes can hide it from the best
}

// Source returns the address that connections of family f leave from, the zero Addr when there is none.
func (l *Line) Source(f Family) netip.Addr {
	switch f {
	case IPv4:
		return l.source4
	case IPv6:
		return l.source6
	}
	return netip.Addr{}
}

// onLink is a network that is reached without a gateway.
type onLink struct {
	prefix netip.Prefix
	lines  uint64 // the uplinks on the interface it belongs to; 0 for an interface that is none
}

// Place is where a destination lies, seen from this machine.
type Place struct {
	// Direct: on this machine, on its link, or on a network of an interface that is no uplink; to be dialled
	// without binding to a line.
	Direct bool
	// Own: on this machine itself, a loopback address or one of its interfaces'.
	Own bool
	// Lines, when not 0, is the set of uplinks (bit n: Number n) whose own network holds the destination. No
	// other line reaches it, except by chance of private addressing.
	Lines uint64
}

// Place tells where addr lies. Of on-link networks that overlap the longest prefix decides, as in a routing table (RFC 4632
// section 5.1); of equal ones, those of uplinks.
func (v *View) Place(addr netip.Addr) Place {
	addr = addr.Unmap()
	if _, own := v.own[addr.WithZone("")]; own || addr.IsLoopback() {
		return Place{Direct: true, Own: true}
	}
	if addr.IsLinkLocalUnicast() {
		return Place{Direct: true}
	}
	longest := 0 // bits; no on-link network has none
	var lines uint64
	for _, n := range v.onLink {
		bits := n.prefix.Bits()
		if bits < longest || !n.prefix.Contains(addr) {
			continue
		}
		if bits > longest {
			longest, lines = bits, 0
		}
		lines |= n.lines
	}
	return Place{Direct: longest > 0 && lines == 0, Lines: lines}
}

// lacks tells whether an address of the machine in the other View is in this one no more.
func (v *View) lacks(other *View) bool {
	for a := range other.own {
		if _, still := v.own[a]; !still {
			return true
		}
	}
	return false
}

func newView(r *machine.Reading, uplinks []*Uplink) *View {
	v := &View{
		Lines:   make([]Line, len(uplinks)),
		reading: r,
		own:     make(map[netip.Addr]struct{}),
	}
	linesOf := make(map[int]uint64) // by interface index
	for n, u := range uplinks {
		v.Lines[n] = resolve(r.Interfaces, u)
		if v.Lines[n].Index != 0 {
			linesOf[v.Lines[n].Index] |= 1 << n
		}
	}
	for n := range r.Interfaces {
		i := &r.Interfaces[n]
		for _, a := range i.Addresses {
			v.own[a.Prefix.Addr()] = struct{}{}
			// A host route is no network, and 0.0.0.0/0 on a tunnel's address is no neighbourhood.
			if i.Up && !a.Prefix.IsSingleIP() && a.Prefix.Bits() > 0 {
				v.onLink = append(v.onLink, onLink{prefix: a.Prefix.Masked(), lines: linesOf[i.Index]})
			}
		}
	}
	return v
}

func resolve(interfaces []machine.Interface, u *Uplink) Line {
	l := Line{Uplink: u}
	i := find(interfaces, u.Spec)
	if i == nil {
		if u.Spec.Addr.IsValid() {
			l.Problem = "no interface has this address now"
		} else {
			l.Problem = "the interface is gone"
		}
		return l
	}
	l.Device, l.Index = i.Name, i.Index
	for _, r := range i.DefaultRoutes {
		l.Routed |= r.Family
	}
	l.routes = fmt.Sprint(i.DefaultRoutes)
	if !i.Up {
		l.Problem = "the link is down"
		return l
	}
	if !u.Spec.Addr.IsValid() {
		l.source4, l.source6 = i.Source(IPv4), i.Source(IPv6)
	} else {
		a, _ := i.Address(u.Spec.Addr)
		if ok, why := a.Usable(); !ok {
			l.Problem = "the address is " + why
			return l
		}
		if FamilyOf(u.Spec.Addr) == IPv4 {
			l.source4 = u.Spec.Addr
		} else {
			l.source6 = u.Spec.Addr
		}
	}
	if l.source4.IsValid() {
		l.Families |= IPv4
	}
	if l.source6.IsValid() {
		l.Families |= IPv6
	}
	if l.Families == 0 {
		if l.Problem = i.Unusable(); l.Problem == "" {
			l.Problem = "no usable address"
		}
	}
	return l
}
