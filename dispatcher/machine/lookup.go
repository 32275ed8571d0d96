package machine

import (
	"errors"
	"fmt"
	"net/netip"
)

// Path is the way that the OS sends packets to an address.
type Path struct {
	// Device is the index of the interface they leave by; for an address of this machine the loopback interface's.
	Device int
	// Source is the address that a socket leaves from which is bound to none; invalid where the OS does not tell.
	Source netip.Addr
	// Router is the next hop; invalid where the destination is on the link, or the link has but one other end.
	Router netip.Addr
	// To are the destinations of the route that matches, and Metric is its own preference, lower is better; both as far
	// as the OS tells.
	To     netip.Prefix
	Metric int
	// Table is the number of the routing table that has the route, on Linux; else 0.
	Table int
}

// ErrNoRoute is in the errors of Lookup that say that nothing leads there. On Linux and the BSDs the kernel's error number
// is in them, too.
var ErrNoRoute = errors.New("no route")

// Lookup asks the OS which way a connection to dst would take from a socket that is bound to the device, an interface's
// index, and to the source; 0 and the zero Addr stand for a socket that is not. Zones are not looked at. An error is
// an ErrNoRoute, or errors.ErrUnsupported where the OS does not tell or has no such sockets, or else says why the OS could
// not be asked.
//
// It asks anew at each call, which takes some 15 microseconds on Linux, half of them for the socket.
func Lookup(dst netip.Addr, device int, source netip.Addr) (Path, error) {
	dst, source = dst.Unmap().WithZone(""), source.Unmap().WithZone("")
	if !dst.IsValid() {
		return Path{}, errors.New("look up a route: no destination was given")
	}
	if source.IsValid() && FamilyOf(source) != FamilyOf(dst) {
		return Path{}, fmt.Errorf("look up the route to %s: the source %s is of the other family", dst, source)
	}
	p, err := lookup(dst, device, source)
	if err != nil {
		return Path{}, fmt.Errorf("look up %s: %w", question(dst, device, source), err)
	}
	return p, nil
}

func question(dst netip.Addr, device int, source netip.Addr) string {
	text := "the route to " + dst.String()
	if source.IsValid() {
		text += " from " + source.String()
	}
	if device != 0 {
		text += fmt.Sprintf(" by interface %d", device)
	}
	return text
}
