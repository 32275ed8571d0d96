package uplink

import "dispatch/dispatcher/machine"

// Candidate says whether `start` without uplink arguments would use an interface, and if not, why.
type Candidate struct {
	Interface *machine.Interface
	Use       bool
	// Reason is empty when Use is true.
	Reason string
}

// Automatic makes the choice that is made when the user named no uplink: every interface that is up, is not
// loopback, has a usable address and a default route of that address's family. Where no interface has a default
// route, the usable address is enough. Tunnels and virtual interfaces are left out as long as that leaves a line: what
// goes by them leaves the machine by another line in the end.
func Automatic(ifaces []machine.Interface) []Candidate {
	candidates := make([]Candidate, len(ifaces))
	anyRouted := false
	for n := range ifaces {
		i := &ifaces[n]
		candidates[n] = Candidate{Interface: i, Reason: i.Unusable()}
		if candidates[n].Reason == "" && routed(i) {
			anyRouted = true
		}
	}
	own := false // there is a line of its own
	for n := range candidates {
		c := &candidates[n]
		if c.Reason == "" && anyRouted && !routed(c.Interface) {
			c.Reason = "no default route"
		}
		own = own || c.Reason == "" && carried(c.Interface) == ""
	}
	for n := range candidates {
		c := &candidates[n]
		if what := carried(c.Interface); own && c.Reason == "" && what != "" {
			c.Reason = what + " beside other lines; name it to use it"
		}
		c.Use = c.Reason == ""
	}
	return candidates
}

// carried says what an interface is whose packets leave the machine by another one, empty for a line of its own.
func carried(i *machine.Interface) string {
	switch i.Kind {
	case machine.KindTunnel:
		return "a tunnel"
	case machine.KindVirtual:
		return "a virtual interface"
	}
	return ""
}

// routed tells whether the interface has a default route of a family it has a source address of.
func routed(i *machine.Interface) bool {
	for _, r := range i.DefaultRoutes {
		if i.Source(r.Family).IsValid() {
			return true
		}
	}
	return false
}
