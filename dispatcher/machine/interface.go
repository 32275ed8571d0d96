package machine

import (
	"net/netip"
	"slices"
)

// Kind is the sort of link an interface is, where the OS tells.
type Kind string

// The kinds a listing tells apart.
const (
	KindUnknown  Kind = ""
	KindEthernet Kind = "ethernet"
	KindWiFi     Kind = "wifi"
	KindMobile   Kind = "mobile" // a modem
	KindPPP      Kind = "ppp"    // PPPoE or dial-up; the OS does not tell them from the VPNs that are made of PPP
	KindTunnel   Kind = "tunnel" // what is carried by another line: VPNs (tun, wireguard, gre, utun)
	KindVirtual  Kind = "bridge/virtual"
	KindLoopback Kind = "loopback"
)

// Interface is one network interface as the OS shows it at one moment.
type Interface struct {
	// Index is the OS's number of the interface, as its bind options take it. Never 0.
	Index int
	// Name is the one its user knows: "eth0", "en0"; on Windows the friendly name ("Ethernet 2").
	Name string
	Kind Kind
	// Up is true when the link is administratively up and has a carrier (RFC 2863 ifOperStatus up, or
	// unknown, which some drivers report for working links).
	Up bool
	// Addresses, IPv4 first, each family in the order of the OS.
	Addresses []Address
	// DefaultRoutes lists the routes to 0.0.0.0/0 and ::/0 that leave by this interface, IPv4 first, best
	// metric first. On Linux they are those the kernel would choose for a connection bound to the interface.
	DefaultRoutes []DefaultRoute
}

// Address is one address of an interface.
type Address struct {
	// Prefix holds the address itself, with the length of its on-link network. No zone.
	Prefix netip.Prefix
	// Tentative: duplicate address detection has not finished, or has failed.
	Tentative bool
	// Deprecated: the preferred lifetime is over (RFC 4862 section 5.5.4). Expired temporary addresses are these.
	Deprecated bool
	// Temporary: a privacy address (RFC 8981).
	Temporary bool
}

// DefaultRoute is one default route of one family.
type DefaultRoute struct {
	Family Family
	// Router is the next hop; invalid where there is none (a tunnel).
	Router netip.Addr
	// Metric is the OS's preference, lower is better; on Windows route metric plus interface metric.
	Metric int
}

// DefaultRoute returns the best default route of one family.
func (i *Interface) DefaultRoute(f Family) (DefaultRoute, bool) {
	for _, r := range i.DefaultRoutes {
		if r.Family == f {
			return r, true
		}
	}
	return DefaultRoute{}, false
}

// Address returns the entry of one of the interface's addresses.
func (i *Interface) Address(addr netip.Addr) (Address, bool) {
	for _, a := range i.Addresses {
		if a.Prefix.Addr() == addr {
			return a, true
		}
	}
	return Address{}, false
}

func (i Interface) equal(o Interface) bool {
	return i.Index == o.Index && i.Name == o.Name && i.Kind == o.Kind && i.Up == o.Up &&
		slices.Equal(i.Addresses, o.Addresses) && slices.Equal(i.DefaultRoutes, o.DefaultRoutes)
}
