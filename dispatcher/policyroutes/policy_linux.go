package policyroutes

import (
	"net"
	"net/netip"
	"slices"

	"dispatch/dispatcher/machine"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// protocol marks all routes and rules of this program. The kernel does not interpret numbers from 5 on; no routing
	// daemon of iproute2's list (rt_protos) has this one.
	protocol = 209
	// firstPriority leaves room below for what must come first, and comes before Tailscale's rules (from 5210), those of
	// wg-quick and the main table (32766).
	firstPriority = 5100
	// perOwner is how many priorities an owner has.
	perOwner = 4
	// tableBase and tablesPerOwner make a table's number tell its owner and its interface's index: 209000007 is the
	// administrator's for interface 7, 210000007 a running process's.
	tableBase      = protocol * 1_000_000
	tablesPerOwner = 1_000_000
	// variants is how many tables an owner can have for one interface, each for one address: 211000007 is the
	// administrator's second for interface 7. There are not more lines than this.
	variants = 64
)

// owner is for whom routes and rules are installed.
type owner int

const (
	fixed   owner = iota // the administrator, with --fix: they stay
	managed              // the process that holds the lock: they go with it
	owners
)

// policy is what makes connections from one source leave by one interface, and passes their replies whatever rp_filter
// is: a default route in a table of its own, and rules that lead there. More specific routes of the main table come
// before, or others than this program could no longer reach the source from networks behind other interfaces.
type policy struct {
	uplink  string // the line's name
	owner   owner
	variant int
	device  string
	index   int
	source  netip.Addr
	router  netip.Addr // invalid: the link has but one other end
	onlink  bool       // the router is on no network of the interface
	// network is valid where another interface is on the source's own network as well: it then has to come first.
	network netip.Prefix
}

func (p policy) family() machine.Family { return machine.FamilyOf(p.source) }

func (p policy) table() int {
	return tableBase + (p.variant*int(owners)+int(p.owner))*tablesPerOwner + p.index
}

// ownerOf tells which owner a rule belongs to; false where it is none of ours.
func ownerOf(r netlink.Rule) (owner, bool) {
	n := owner(r.Priority-firstPriority) / perOwner
	return n, r.Protocol == protocol && r.Priority >= firstPriority && n < owners
}

// ownerOfTable does so for a route.
func ownerOfTable(table int) (owner, bool) {
	n := owner(table-tableBase) / tablesPerOwner
	return n % owners, table > tableBase && n < owners*variants
}

// routes in the order in which they have to be made.
func (p policy) routes() []netlink.Route {
	base := netlink.Route{LinkIndex: p.index, Table: p.table(), Protocol: protocol, Family: familyNumber(p.family())}
	if p.source.Is6() {
		base.Priority = 1024 // what the kernel makes of none
	}
	var list []netlink.Route
	if p.network.IsValid() {
		r := base
		r.Dst, r.Scope = ipNet(p.network), unix.RT_SCOPE_LINK
		list = append(list, r)
	}
	r := base
	r.Dst = ipNet(everything(p.family()))
	if p.router.IsValid() {
		r.Gw = p.router.AsSlice()
	} else {
		r.Scope = unix.RT_SCOPE_LINK
	}
	if p.onlink {
		r.Flags = int(netlink.FLAG_ONLINK)
	}
	return append(list, r)
}

// rules in the order in which the kernel asks them.
func (p policy) rules() []netlink.Rule {
	rule := func(place, table int) netlink.Rule {
		r := netlink.NewRule()
		r.Family, r.Protocol = familyNumber(p.family()), protocol
		r.Priority, r.Table = firstPriority+int(p.owner)*perOwner+place, table
		r.Src = ipNet(netip.PrefixFrom(p.source, p.source.BitLen()))
		return *r
	}
	var list []netlink.Rule
	if p.network.IsValid() {
		neighbours := rule(0, p.table())
		neighbours.Dst = ipNet(p.network)
		list = append(list, neighbours)
	}
	specific := rule(1, unix.RT_TABLE_MAIN)
	specific.SuppressPrefixlen = machine.LongestDefault(p.family())
	return append(list, specific, rule(2, p.table()))
}

func everything(f machine.Family) netip.Prefix {
	if f == machine.IPv4 {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// newPolicy is the policy for a source address of an interface, by a router.
func newPolicy(interfaces []machine.Interface, i *machine.Interface, source netip.Addr, by Router, o owner) policy {
	p := policy{owner: o, device: i.Name, index: i.Index, source: source, router: by.Addr}
	p.onlink = by.Addr.IsValid() && !by.Addr.IsLinkLocalUnicast() && !slices.ContainsFunc(i.Addresses, func(a machine.Address) bool {
		return a.Prefix.Masked().Contains(by.Addr)
	})
	for n := range interfaces {
		if other := &interfaces[n]; other.Index != i.Index && other.Kind != machine.KindLoopback {
			if network, ok := machine.SharedNetwork(i, other, p.family()); ok && network.Contains(source) {
				p.network = network
			}
		}
	}
	return p
}
