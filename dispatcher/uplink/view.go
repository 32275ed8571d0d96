package uplink

import (
	"fmt"
	"net/netip"

	"dispatch/dispatcher/machine"
)

// View is what the uplinks of a Fleet stand for in one reading of the interfaces. It is never changed.
type View struct {
	// Bindings has one entry an uplink, in the user's order.
	Bindings []Binding
	// IDs is the set of their uplinks.
	IDs IDs
	// Generation grows with each change of Bindings, and when an address of the machine goes: what was derived from those
	// can be kept by it. The first is 1.
	Generation uint64

	members *[]member
	reading *machine.Reading
	byID    [MaxUplinks]uint8 // in Bindings
	own     map[netip.Addr]struct{}
	onLink  []onLink
}

// Binding is what an uplink stands for at one moment: the interface and the source addresses its connections leave from.
type Binding struct {
	Uplink *Uplink
	// Weight is its share against the other uplinks' weights.
	Weight int
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
func (l *Binding) Source(f Family) netip.Addr {
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
	lines  IDs // the uplinks on the interface it belongs to; none for an interface that is no line
}

// Place is where a destination lies, seen from this machine.
type Place struct {
	// Direct: on this machine, on its link, or on a network of an interface that is no uplink; to be dialled
	// without binding to a line.
	Direct bool
	// Own: on this machine itself, a loopback address or one of its interfaces'.
	Own bool
	// Lines, when not empty, are the uplinks whose own network holds the destination. No other line reaches it, except
	// by chance of private addressing.
	Lines IDs
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
	var lines IDs
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

// Binding returns what the fleet's uplink with that ID stands for; the ID is one of v.IDs.
func (v *View) Binding(id ID) *Binding { return &v.Bindings[v.byID[id]] }

// BindingOf returns what u stands for, nil when u is not of the fleet any more.
func (v *View) BindingOf(u *Uplink) *Binding {
	if !v.IDs.Has(u.id) {
		return nil
	}
	if l := v.Binding(u.id); l.Uplink == u {
		return l
	}
	return nil
}

// Reaching returns the uplinks that have a source address of addr's family; of those in only, unless that is empty.
func (v *View) Reaching(addr netip.Addr, only IDs) IDs {
	var ids IDs
	family := FamilyOf(addr)
	for n := range v.Bindings {
		if l := &v.Bindings[n]; l.Families&family != 0 && (only == 0 || only.Has(l.Uplink.id)) {
			ids = ids.With(l.Uplink.id)
		}
	}
	return ids
}

func newView(r *machine.Reading, members *[]member) *View {
	v := &View{
		Bindings: make([]Binding, len(*members)),
		members:  members,
		reading:  r,
		own:      make(map[netip.Addr]struct{}),
	}
	linesOf := make(map[int]IDs) // by interface index
	for n, m := range *members {
		id := m.uplink.id
		v.byID[id], v.IDs = uint8(n), v.IDs.With(id)
		l := resolve(r.Interfaces, m)
		v.Bindings[n] = l
		if l.Index != 0 {
			linesOf[l.Index] = linesOf[l.Index].With(id)
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

func resolve(interfaces []machine.Interface, m member) Binding {
	l, fixed := Binding{Uplink: m.uplink, Weight: m.spec.Weight}, m.spec.Addr
	i := find(interfaces, m.spec)
	if i == nil {
		if fixed.IsValid() {
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
	if !fixed.IsValid() {
		l.source4, l.source6 = i.Source(IPv4), i.Source(IPv6)
	} else {
		a, _ := i.Address(fixed)
		if ok, why := a.Usable(); !ok {
			l.Problem = "the address is " + why
			return l
		}
		if FamilyOf(fixed) == IPv4 {
			l.source4 = fixed
		} else {
			l.source6 = fixed
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
