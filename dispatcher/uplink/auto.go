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
// route, the usable address is enough. Tunnels are left out beside anything else, and virtual interfaces beside lines of
// their own: what goes by them leaves the machine by another line in the end.
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
	best := machine.KindTunnel // of the ways out that there are
	for n := range candidates {
		c := &candidates[n]
		if c.Reason == "" && anyRouted && !routed(c.Interface) {
			c.Reason = "no default route"
		}
		if c.Reason == "" && carried(c.Interface.Kind) < carried(best) {
			best = c.Interface.Kind
		}
	}
	for n := range candidates {
		c := &candidates[n]
		if kind := c.Interface.Kind; c.Reason == "" && carried(kind) > carried(best) {
			c.Reason = carriedAs[kind] + " beside other lines; name it to use it"
		}
		c.Use = c.Reason == ""
	}
	return candidates
}

// carriedAs names the kinds of interfaces whose packets leave the machine by another one.
var carriedAs = map[machine.Kind]string{machine.KindVirtual: "a virtual interface", machine.KindTunnel: "a tunnel"}

// carried ranks the kinds: a tunnel may be carried by a virtual interface, as in a container, not the other way round.
func carried(k machine.Kind) int {
	switch k {
	case machine.KindVirtual:
		return 1
	case machine.KindTunnel:
		return 2
	}
	return 0
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
