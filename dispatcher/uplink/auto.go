package uplink

import "dispatch/dispatcher/machine"

// Choice says whether `start` without uplink arguments would use an interface, and if not, why.
type Choice struct {
	Interface *machine.Interface
	Use       bool
	// Reason is empty when Use is true.
	Reason string
}

// Automatic makes the choice that is made when the user named no uplink: every interface that is up, is not
// loopback, has a usable address and a default route of that address's family. Where no interface has a default
// route, the usable address is enough.
func Automatic(ifaces []machine.Interface) []Choice {
	choices := make([]Choice, len(ifaces))
	anyRouted := false
	for n := range ifaces {
		i := &ifaces[n]
		choices[n] = Choice{Interface: i, Reason: i.Unusable()}
		if choices[n].Reason == "" && routed(i) {
			anyRouted = true
		}
	}
	for n := range choices {
		c := &choices[n]
		if c.Reason == "" && anyRouted && !routed(c.Interface) {
			c.Reason = "no default route"
		}
		c.Use = c.Reason == ""
	}
	return choices
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
