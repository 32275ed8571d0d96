// Package machine is what the operating system has: its network interfaces with their addresses and default routes, and
// news of their changes.
package machine

import "net/netip"

// Family is a set of IP families; a single address has exactly one.
type Family uint8

// The two families, and both.
const (
	IPv4 Family = 1 << iota
	IPv6
	Both = IPv4 | IPv6
)

// FamilyOf returns the family of a; IPv4-mapped IPv6 addresses are IPv4. An invalid address has none.
func FamilyOf(a netip.Addr) Family {
	switch {
	case a.Is4(), a.Is4In6():
		return IPv4
	case a.IsValid():
		return IPv6
	}
	return 0
}

// String names the set: "ipv4", "ipv6", "ipv4+ipv6" or "none".
func (f Family) String() string {
	switch f {
	case IPv4:
		return "ipv4"
	case IPv6:
		return "ipv6"
	case Both:
		return "ipv4+ipv6"
	}
	return "none"
}
