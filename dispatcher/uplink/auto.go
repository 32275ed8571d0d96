package uplink

// Choice says whether `start` without uplink arguments would use an interface, and if not, why.
type Choice struct {
	Interface *Interface
	Use       bool
	// Reason is empty when Use is true.
	Reason string
}

// Automatic makes the choice that is made when the user named no uplink: every interface that is up, is not
// loopback, has a usable address and a default route of that address's family. Where no interface has a default
// route, the usable address is enough.
func Automatic(ifaces []Interface) []Choice {
	choices := make([]Choice, len(ifaces))
	routed := false
	for n := range ifaces {
		i := &ifaces[n]
		choices[n] = Choice{Interface: i, Reason: whyNot(i)}
		if choices[n].Reason == "" && i.routed() {
			routed = true
		}
	}
	for n := range choices {
		c := &choices[n]
		if c.Reason == "" && routed && !c.Interface.routed() {
			c.Reason = "no default route"
		}
		c.Use = c.Reason == ""
	}
	return choices
}

// routed tells whether the interface has a default route of a family it has a source address of.
func (i *Interface) routed() bool {
	for _, r := range i.DefaultRoutes {
		if i.Source(r.Family).IsValid() {
			return true
		}
	}
	return false
}

func whyNot(i *Interface) string {
	switch {
	case i.Kind == KindLoopback:
		return "loopback"
	case !i.Up:
		return "down"
	case i.Source(IPv4).IsValid() || i.Source(IPv6).IsValid():
		return ""
	case len(i.Addresses) == 0:
		return "no address"
	}
	for _, a := range i.Addresses {
		if ok, why := a.Usable(); !ok && why != "link-local" {
			return "only " + why + " addresses"
		}
	}
	for _, a := range i.Addresses {
		if isULA(a.Prefix.Addr()) {
			return "only a unique local address without a default route"
		}
	}
	return "only link-local addresses"
}
