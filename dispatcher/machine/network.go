package machine

import "net/netip"

// Far are destinations in the lower and the upper half of a family's space that are on nobody's network: the routes to them
// are the default routes. Nothing is to be sent there.
func Far(f Family) [2]netip.Addr {
	if f == IPv4 {
		return [2]netip.Addr{netip.AddrFrom4([4]byte{126, 255, 255, 254}), netip.AddrFrom4([4]byte{223, 255, 255, 254})}
	}
	return [2]netip.Addr{netip.AddrFrom16([16]byte{0x20, 0, 15: 1}), netip.AddrFrom16([16]byte{0x3f, 0xff, 0xff, 15: 1})}
}

// IsDefault tells whether the path is by a default route, or by one of the pieces that VPNs split it into: halves of IPv4,
// and of what IPv6 has assigned.
func (p Path) IsDefault() bool {
	return p.To.IsValid() && p.To.Bits() <= LongestDefault(FamilyOf(p.To.Addr()))
}

// LongestDefault is the length of the longest prefix that stands for a default route or a piece of one.
func LongestDefault(f Family) int {
	if f == IPv4 {
		return 1
	}
	return 4
}

// SharedNetwork returns a network that two interfaces are both on; false where there is none.
func SharedNetwork(a, b *Interface, f Family) (netip.Prefix, bool) {
	for _, x := range a.Addresses {
		p := x.Prefix.Masked()
		if FamilyOf(p.Addr()) != f || p.IsSingleIP() || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		for _, y := range b.Addresses {
			if !y.Prefix.IsSingleIP() && y.Prefix.Masked().Overlaps(p) {
				return p, true
			}
		}
	}
	return netip.Prefix{}, false
}

// Adjoins tells whether addr is on the same network of the interface as source, one of its addresses.
func (i *Interface) Adjoins(source, addr netip.Addr) bool {
	for _, a := range i.Addresses {
		if network := a.Prefix.Masked(); network.Contains(addr) && network.Contains(source) {
			return true
		}
	}
	return addr.Is6() && addr.IsLinkLocalUnicast()
}
