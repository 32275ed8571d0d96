// Package uplink is the lines out of the machine that a gateway may use: what the user calls each, the interface and source
// addresses it stands for at the moment, how a connection is bound to it and to no other, and what a failure says of it.
package uplink

import (
	"net/netip"

	"dispatch/dispatcher/machine"
)

// Family is a set of IP families, as the machine package has it: who only deals with lines need not know that one.
type Family = machine.Family

// The two families, and both.
const (
	IPv4 = machine.IPv4
	IPv6 = machine.IPv6
	Both = machine.Both
)

// FamilyOf returns the family of a; IPv4-mapped IPv6 addresses are IPv4. An invalid address has none.
func FamilyOf(a netip.Addr) Family { return machine.FamilyOf(a) }
