package uplink

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// MaxWeight is the largest weight an uplink can have.
const MaxWeight = 1000

// Spec is one uplink as its user wrote it: an interface's name or a fixed local address, and a weight.
type Spec struct {
	// Name is the interface's name; empty when Addr is valid.
	Name string
	// Addr is a fixed local address; invalid when Name is set.
	Addr netip.Addr
	// Weight is its share against the other uplinks', 1..MaxWeight.
	Weight int
}

// String is the name the uplink goes by in logs and listings: the interface or the address, without the weight.
func (s Spec) String() string {
	if s.Addr.IsValid() {
		return s.Addr.String()
	}
	return s.Name
}

// ParseSpec reads one uplink argument: NAME, IPv4 or IPv6 (with or without brackets), each with an optional
// weight as @W or /W; without one the weight is 1. A number behind an address's slash is a weight, never a
// prefix length, as the ancestors of this program had it.
func ParseSpec(arg string) (Spec, error) {
	who, weight := arg, 1
	if i := strings.LastIndexAny(arg, "@/"); i >= 0 {
		var err error
		if weight, err = parseWeight(arg[i+1:]); err != nil {
			return Spec{}, fmt.Errorf("uplink %q: %w", arg, err)
		}
		who = arg[:i]
	}
	if who == "" || strings.TrimSpace(who) != who {
		return Spec{}, fmt.Errorf("uplink %q: a name or address must stand before the weight, without spaces around it; write eth0@3 or 192.0.2.7@3", arg)
	}
	literal := who
	if strings.HasPrefix(who, "[") && strings.HasSuffix(who, "]") {
		literal = who[1 : len(who)-1]
	}
	addr, err := netip.ParseAddr(literal)
	if err != nil {
		if err := checkName(who); err != nil {
			return Spec{}, fmt.Errorf("uplink %q: %w", arg, err)
		}
		return Spec{Name: who, Weight: weight}, nil
	}
	if err := checkAddr(addr); err != nil {
		return Spec{}, fmt.Errorf("uplink %q: %w", arg, err)
	}
	return Spec{Addr: addr.Unmap(), Weight: weight}, nil
}

// ParseSpecs reads all uplink arguments and refuses one that is named twice.
func ParseSpecs(args []string) ([]Spec, error) {
	specs := make([]Spec, 0, len(args))
	seen := make(map[string]bool, len(args))
	for _, arg := range args {
		s, err := ParseSpec(arg)
		if err != nil {
			return nil, err
		}
		if seen[s.String()] {
			return nil, twiceError(s)
		}
		seen[s.String()] = true
		specs = append(specs, s)
	}
	return specs, nil
}

// twiceError is for an uplink that stands twice in a list.
func twiceError(s Spec) error {
	return fmt.Errorf("uplink %q is named twice; name it once, with one weight", s)
}

func parseWeight(text string) (int, error) {
	w, err := strconv.ParseUint(text, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) || err == nil && w > MaxWeight:
		return 0, fmt.Errorf("weight %s is over %d; only the proportion between the uplinks counts, so divide all of them", text, MaxWeight)
	case err != nil:
		return 0, fmt.Errorf("weight %q is not a whole number; write a weight of 1 to %d behind @ or /, as in eth0@3", text, MaxWeight)
	case w == 0:
		return 0, errors.New("weight 0 would never be used; leave the uplink out instead")
	}
	return int(w), nil
}

func checkAddr(a netip.Addr) error {
	switch {
	case a.Zone() != "":
		return errors.New("an address with a zone reaches only its own link; name the interface or a global address")
	case a.IsUnspecified():
		return errors.New("the unspecified address is not a line; name an interface or one of its addresses")
	case a.IsMulticast():
		return errors.New("a multicast address cannot be a source; name an interface or one of its addresses")
	case a.IsLinkLocalUnicast():
		return errors.New("a link-local address reaches only its own link; name the interface or a global address")
	}
	return nil
}

// checkName refuses what no OS accepts as an interface's name, and the arguments that were meant as something else.
func checkName(name string) error {
	if strings.HasPrefix(name, "-") {
		return errors.New("it looks like a flag; flags have their own names, see 'dispatch start -h'")
	}
	for _, r := range name {
		if r < ' ' || r == 0x7f {
			return errors.New("it has a control character; see 'dispatch list' for the names")
		}
	}
	if strings.ContainsAny(name, "[]/") {
		return errors.New("it is neither an address nor an interface's name; see 'dispatch list' for both")
	}
	return nil
}
