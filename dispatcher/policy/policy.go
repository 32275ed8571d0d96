// Package policy says whether a request may go to a destination, and which way: by the lines, or unbound. All rules about
// that are here.
package policy

import (
	"net/netip"
	"sync"

	"dispatch/dispatcher/uplink"
)

// Query is one destination of a request.
type Query struct {
	// Client is the client's address, invalid for the gateway's own errands. Remote: it is another machine's.
	Client netip.Addr
	Remote bool
	// User is the name that the client gave, Host the name or address that it asked for.
	User, Host string
	// Destination is one of the host's, and Place is where that lies.
	Destination netip.AddrPort
	Place       uplink.Place
}

// Decision is what is to be done with a destination.
type Decision uint8

// Balanced destinations are dialled through a line, Direct ones unbound, Refused ones not at all.
const (
	Balanced Decision = iota
	Direct
	Refused
)

// Verdict is the answer to a Query.
type Verdict struct {
	Decision Decision
	// Only, when not empty, are the lines that a balanced destination may use.
	Only uplink.IDs
	// Rule is the one that decided.
	Rule Rule
}

// Rule names a rule, for its user.
type Rule string

// The rules, in the order in which they are asked.
const (
	Gateway      Rule = "gateway"       // refused: a listener of the gateway's own, where requests would go round in circles
	RemoteClient Rule = "remote client" // refused: reached without a line, and asked for from another machine
	OwnAddress   Rule = "own address"   // direct: on this machine
	LinkLocal    Rule = "link-local"    // direct
	LineNetwork  Rule = "line network"  // balanced, over the lines whose own network it is on
	Neighbour    Rule = "neighbour"     // direct: on a network of an interface that is no line
	Default      Rule = "default"       // balanced, over all lines
)

// Explain says what the rule is about, behind the destination's name.
func (r Rule) Explain() string {
	switch r {
	case Gateway:
		return "is the gateway itself"
	case RemoteClient:
		return "is for programs on the gateway's own machine only"
	case OwnAddress:
		return "is this machine's own"
	case LinkLocal:
		return "is on this machine's link"
	case LineNetwork:
		return "is on a line's own network"
	case Neighbour:
		return "is on the network of an interface that is no line"
	}
	return "is reached by the lines"
}

// Local is the policy that keeps what is near where it is: everything else is balanced. The zero value is ready to use.
// Safe for concurrent use.
type Local struct {
	mu        sync.RWMutex
	listeners []netip.AddrPort
}

// Protect makes requests to a listener's own address be refused. An unspecified address stands for all of the machine's.
func (l *Local) Protect(listener netip.AddrPort) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listeners = append(l.listeners, netip.AddrPortFrom(listener.Addr().Unmap(), listener.Port()))
}

// Judge asks the rules one after the other. What this machine reaches without a line is its own affair: its services, what
// trusts all that comes from it (a cloud's metadata service, say), and the networks behind it. To clients on other machines
// a proxy must not be a way past its firewall.
func (l *Local) Judge(q Query) Verdict {
	addr := q.Destination.Addr()
	switch {
	case addr.IsUnspecified() || l.protects(q.Destination, q.Place):
		return Verdict{Decision: Refused, Rule: Gateway}
	case q.Place.Direct && q.Remote:
		return Verdict{Decision: Refused, Rule: RemoteClient}
	case q.Place.Own:
		return Verdict{Decision: Direct, Rule: OwnAddress}
	case q.Place.Direct && addr.IsLinkLocalUnicast():
		return Verdict{Decision: Direct, Rule: LinkLocal}
	case q.Place.Direct:
		return Verdict{Decision: Direct, Rule: Neighbour}
	case q.Place.Lines != 0:
		return Verdict{Decision: Balanced, Only: q.Place.Lines, Rule: LineNetwork}
	}
	return Verdict{Decision: Balanced, Rule: Default}
}

// protects tells whether dst is one of the gateway's listeners.
func (l *Local) protects(dst netip.AddrPort, place uplink.Place) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, own := range l.listeners {
		if own.Port() == dst.Port() && (own.Addr() == dst.Addr().WithZone("") || own.Addr().IsUnspecified() && place.Own) {
			return true
		}
	}
	return false
}
