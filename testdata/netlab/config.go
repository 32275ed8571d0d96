package netlab

import (
	"errors"
	"fmt"
	"net/netip"
)

// Config describes the client's lines. The zero value means three of them, each as the zero Uplink says.
type Config struct {
	Uplinks []Uplink // nil means three
}

// Uplink describes one line of the client. The zero value is a line with both families, a default route in each,
// and no limit on its rate.
type Uplink struct {
	// Name of the client's interface; "" means "wan1" for the first line, and so on.
	Name string

	// IPv4 and IPv6 are the client's address with the length of the line's prefix, such as 198.51.100.2/24.
	// The prefix is what the ISP accepts as a source and what the internet routes to it; those of two lines must
	// not overlap. The zero value means: 198.51.100.2/24, 203.0.113.2/24, then 100.64.I.2/24 for line I (counted
	// from 0); 2001:db8:I+1::2/64.
	IPv4, IPv6 netip.Prefix

	// NoIPv4 and NoIPv6 leave the family out. An interface without IPv6 still has its link-local address.
	NoIPv4, NoIPv6 bool

	// Gateway4 and Gateway6 are the ISP's own addresses on the line; Gateway6 may be link-local. The zero value
	// means the first host of the prefix.
	Gateway4, Gateway6 netip.Addr

	// NoDefault4 and NoDefault6 leave the default route of the main table out.
	NoDefault4, NoDefault6 bool

	// Metric of the default routes, lower being preferred; 0 means 100 for the first line, 200 for the second, ...
	Metric int

	// PolicyRoutes adds "ip rule from SRC lookup T" for each address of the line, and a default route in T.
	PolicyRoutes bool

	// Extra are more addresses of the client's interface.
	Extra []Addr

	// MTU of both ends of the line in bytes; 0 means 1500.
	MTU int

	// RPFilter is the interface's rp_filter: 1 is strict, 2 is loose; 0 means 2. The value of "all", of which and
	// the interface's own the kernel takes the larger, is 0.
	RPFilter int

	// Rate limits each direction, in bits per second as the link layer counts them; 0 means no limit.
	Rate uint64
}

// Addr is an address of a client interface.
type Addr struct {
	Prefix netip.Prefix // the address and the length of its prefix

	Deprecated bool // its preferred lifetime is over
	Tentative  bool // IPv6: duplicate address detection has begun and does not end
	Temporary  bool // IPv6: the kernel derives a temporary address (RFC 8981) from it as well; Prefix must be a /64
}

// Fate is what a machine does with the packets to an address.
type Fate int

// The fates. The zero value is to deliver.
//
// The answer of Unreachable is so quick here that over IPv6 it comes before connect(2) has done its part, and Linux
// then waits for another: an IPv6 connection fails at its second packet, after a second. Over IPv4 it fails at once.
const (
	Deliver     Fate = iota
	Drop             // lose them without a word
	Unreachable      // answer them with ICMP "network unreachable", ICMPv6 "no route"
)

const defaultMTU = 1500

// complete returns the uplinks with every default filled in, or an error that names what makes no network.
func (c Config) complete() ([]Uplink, error) {
	uplinks := append([]Uplink(nil), c.Uplinks...)
	if c.Uplinks == nil {
		uplinks = make([]Uplink, 3)
	}
	if len(uplinks) > 200 {
		return nil, fmt.Errorf("%d uplinks: the address plan ends at 200", len(uplinks))
	}
	for i := range uplinks {
		u := &uplinks[i]
		u.Extra = append([]Addr(nil), u.Extra...)
		u.fillIn(i)
		if err := u.check(); err != nil {
			return nil, fmt.Errorf("uplink %d (%s): %w", i, u.Name, err)
		}
		for j, other := range uplinks[:i] {
			if err := u.clash(other); err != nil {
				return nil, fmt.Errorf("uplinks %d and %d: %w", j, i, err)
			}
		}
	}
	return uplinks, nil
}

func (u *Uplink) fillIn(i int) {
	if u.Name == "" {
		u.Name = fmt.Sprintf("wan%d", i+1)
	}
	if !u.IPv4.IsValid() && !u.NoIPv4 {
		u.IPv4 = defaultIPv4(i)
	}
	if !u.IPv6.IsValid() && !u.NoIPv6 {
		u.IPv6 = netip.MustParsePrefix(fmt.Sprintf("2001:db8:%x::2/64", i+1))
	}
	if !u.Gateway4.IsValid() && !u.NoIPv4 {
		u.Gateway4 = u.IPv4.Masked().Addr().Next()
	}
	if !u.Gateway6.IsValid() && !u.NoIPv6 {
		u.Gateway6 = u.IPv6.Masked().Addr().Next()
	}
	if u.Metric == 0 {
		u.Metric = 100 * (i + 1)
	}
	if u.MTU == 0 {
		u.MTU = defaultMTU
	}
	if u.RPFilter == 0 {
		u.RPFilter = 2
	}
}

func defaultIPv4(i int) netip.Prefix {
	switch i {
	case 0:
		return netip.MustParsePrefix("198.51.100.2/24")
	case 1:
		return netip.MustParsePrefix("203.0.113.2/24")
	default:
		return netip.MustParsePrefix(fmt.Sprintf("100.64.%d.2/24", i))
	}
}

func (u *Uplink) check() error {
	switch {
	case len(u.Name) > 15:
		return fmt.Errorf("name %q: an interface's name has at most 15 bytes", u.Name)
	case u.NoIPv4 && u.IPv4.IsValid(), u.NoIPv6 && u.IPv6.IsValid():
		return errors.New("a prefix was given for a family that was left out")
	case u.IPv4.IsValid() && !u.IPv4.Addr().Is4(), u.IPv6.IsValid() && !u.IPv6.Addr().Is6():
		return fmt.Errorf("prefixes %v and %v: the family is the other one", u.IPv4, u.IPv6)
	case u.IPv4.IsValid() && u.IPv4.Addr() == u.Gateway4, u.IPv6.IsValid() && u.IPv6.Addr() == u.Gateway6:
		return fmt.Errorf("prefixes %v and %v: the client's address is the gateway's", u.IPv4, u.IPv6)
	case u.IPv4.IsValid() && !u.IPv4.Masked().Contains(u.Gateway4):
		return fmt.Errorf("gateway %v is not in %v", u.Gateway4, u.IPv4)
	case u.IPv6.IsValid() && !u.IPv6.Masked().Contains(u.Gateway6) && !u.Gateway6.IsLinkLocalUnicast():
		return fmt.Errorf("gateway %v is neither in %v nor link-local", u.Gateway6, u.IPv6)
	case u.RPFilter != 1 && u.RPFilter != 2:
		return fmt.Errorf("rp_filter %d: use 1 (strict) or 2 (loose)", u.RPFilter)
	}
	for _, a := range u.Extra {
		if err := a.check(); err != nil {
			return err
		}
	}
	return nil
}

func (a Addr) check() error {
	switch {
	case !a.Prefix.IsValid():
		return errors.New("an extra address has no prefix")
	case a.Prefix.Addr().Is4() && (a.Tentative || a.Temporary):
		return fmt.Errorf("address %v: only IPv6 addresses are tentative or temporary", a.Prefix)
	case a.Temporary && a.Prefix.Bits() != 64:
		return fmt.Errorf("address %v: temporary addresses need a /64", a.Prefix)
	}
	return nil
}

func (u *Uplink) clash(other Uplink) error {
	switch {
	case u.Name == other.Name:
		return fmt.Errorf("both are named %q", u.Name)
	case u.Metric == other.Metric:
		return fmt.Errorf("both have metric %d, and the kernel keeps one default route per metric", u.Metric)
	case u.IPv4.Overlaps(other.IPv4):
		return fmt.Errorf("prefixes %v and %v overlap", other.IPv4, u.IPv4)
	case u.IPv6.Overlaps(other.IPv6):
		return fmt.Errorf("prefixes %v and %v overlap", other.IPv6, u.IPv6)
	}
	return nil
}
