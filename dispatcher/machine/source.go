package machine

import "net/netip"

// Usable tells whether a connection to the internet may leave from this address, and if not, why.
func (a Address) Usable() (bool, string) {
	addr := a.Prefix.Addr()
	switch {
	case !addr.IsValid(), addr.IsUnspecified(), addr.IsMulticast():
		return false, "not a unicast address"
	case addr.IsLinkLocalUnicast():
		return false, "link-local"
	case a.Tentative:
		return false, "tentative"
	case a.Deprecated:
		return false, "deprecated"
	}
	return true, ""
}

// isULA tells whether a is a unique local address (RFC 4193), which the internet does not route.
func isULA(a netip.Addr) bool { return a.Is6() && a.IsPrivate() }

// Source chooses the address of the interface that connections of family f leave from; the zero Addr when
// there is none. Global addresses win over ULAs, temporary ones over permanent ones (RFC 6724 section 5,
// rules 6 and 7), then the OS's order. A ULA counts only where the interface has an IPv6 default route: without
// one nothing translates it, and every attempt from it would be lost.
func (i *Interface) Source(f Family) netip.Addr {
	var best Address
	for _, a := range i.Addresses {
		addr := a.Prefix.Addr()
		if FamilyOf(addr) != f {
			continue
		}
		if ok, _ := a.Usable(); !ok {
			continue
		}
		if isULA(addr) {
			if _, routed := i.DefaultRoute(IPv6); !routed {
				continue
			}
		}
		if !best.Prefix.IsValid() || betterSource(a, best) {
			best = a
		}
	}
	return best.Prefix.Addr()
}

func betterSource(a, b Address) bool {
	if ula := isULA(a.Prefix.Addr()); ula != isULA(b.Prefix.Addr()) {
		return !ula
	}
	return a.Temporary && !b.Temporary
}

// Unusable says why no connection to the internet can leave by the interface, nothing when one can.
func (i *Interface) Unusable() string {
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
