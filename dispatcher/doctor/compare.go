package doctor

import "dispatch/dispatcher/machine"

// compareLines makes the checks that concern two lines.
func (e *examination) compareLines() {
	for n, l := range e.lines {
		if l.iface == nil || l.iface.Kind == machine.KindLoopback {
			continue
		}
		if first := e.sameInterface(n); first != nil {
			l.warn(CheckDuplicate, 0, nil, "it is the same line as %s, which so gets both shares; leave one of them out, and give the other the weight %d",
				first.Uplink, first.spec.Weight+l.spec.Weight)
		} else {
			l.pass(CheckDuplicate, 0, "no other uplink is the same line")
		}
		for _, f := range families {
			if l.source[f].IsValid() {
				e.compareNetworks(l, f)
			}
		}
	}
}

// sameInterface returns an earlier line that line n is a duplicate of: two addresses of one interface are as well.
func (e *examination) sameInterface(n int) *line {
	for _, other := range e.lines[:n] {
		if other.iface == nil || other.iface.Index != e.lines[n].iface.Index {
			continue
		}
		for _, f := range families {
			if other.wants(f) && e.lines[n].wants(f) {
				return other
			}
		}
	}
	return nil
}

// compareNetworks looks for other interfaces on the line's network.
func (e *examination) compareNetworks(l *line, f machine.Family) {
	for n := range e.interfaces {
		other := &e.interfaces[n]
		if other.Index == l.iface.Index || !other.Up || other.Kind == machine.KindLoopback {
			continue
		}
		if network, ok := machine.SharedNetwork(l.iface, other, f); ok {
			e.noteSharedNetwork(l, f, other, network)
			return
		}
	}
	l.pass(CheckNetwork, f, "no other interface is on its network")
}
