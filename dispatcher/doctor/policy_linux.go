package doctor

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

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
	// perSlot is how many priorities an owner has.
	perSlot = 4
	// slots is how many owners there can be. Slot 0 is the administrator's, who used --fix; each running process that
	// manages routes has another.
	slots = 16
	// tableBase and tablesPerSlot make a table's number tell its owner and its interface's index, so that nothing about
	// it has to be remembered anywhere: 209000007 is the administrator's for interface 7.
	tableBase     = protocol * 1_000_000
	tablesPerSlot = 1_000_000
	// variants is how many tables an owner can have for one interface, whose addresses may be of different routers:
	// 225000007 is the administrator's second for interface 7. There are not more lines than this.
	variants = 64
)

// policy is what makes connections from one source leave by one interface, and passes their replies whatever rp_filter
// is: a default route in a table of its own, and rules that lead there. More specific routes of the main table come
// before, or others than this program could no longer reach the source from networks behind other interfaces.
type policy struct {
	uplink  string // the line's name
	slot    int
	variant int
	device  string
	index   int
	source  netip.Addr
	gateway netip.Addr // invalid: the link has but one other end
	onlink  bool       // the gateway is on no network of the interface
	// network is valid where another interface is on the source's own network as well: it then has to come first.
	network netip.Prefix
}

func (p policy) family() machine.Family { return machine.FamilyOf(p.source) }

func (p policy) table() int { return tableBase + (p.variant*slots+p.slot)*tablesPerSlot + p.index }

// slotOf tells which owner a rule belongs to; false where it is none of ours.
func slotOf(r netlink.Rule) (int, bool) {
	n := (r.Priority - firstPriority) / perSlot
	return n, r.Protocol == protocol && r.Priority >= firstPriority && n < slots
}

// slotOfTable does so for a route.
func slotOfTable(table int) (int, bool) {
	n := (table - tableBase) / tablesPerSlot
	return n % slots, table > tableBase && n < slots*variants
}

// routes in the order in which they have to be made.
func (p policy) routes() []netlink.Route {
	base := netlink.Route{LinkIndex: p.index, Table: p.table(), Protocol: protocol, Family: ipFamily(p.family())}
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
	if p.gateway.IsValid() {
		r.Gw = p.gateway.AsSlice()
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
		r.Family, r.Protocol = ipFamily(p.family()), protocol
		r.Priority, r.Table = firstPriority+p.slot*perSlot+place, table
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
	specific.SuppressPrefixlen = suppressed(p.family())
	return append(list, specific, rule(2, p.table()))
}

// policyCommands are what installs a policy by hand, as the administrator's. Routes may be made again and again; rules that
// are there would be refused and are left out.
func (e *examination) policyCommands(i *machine.Interface, source netip.Addr, way gateway) []string {
	c := &Change{kernel: e.kernel}
	has, err := e.kernel.installed()
	if err != nil {
		has = installed{} // then all commands are printed
	}
	policies := []policy{newPolicy(e.interfaces, i, source, way, 0)}
	has.assign(policies)
	c.install(has, policies[0])
	return c.Commands
}

func ipCommand(f machine.Family, rest string) string {
	if f == machine.IPv6 {
		return "ip -6 " + rest
	}
	return "ip " + rest
}

// routeWords writes a route as ip(8) reads it.
func routeWords(r netlink.Route, device string) string {
	words := []string{"default"}
	if ones, _ := r.Dst.Mask.Size(); ones > 0 {
		words[0] = r.Dst.String()
	}
	if r.Gw != nil {
		words = append(words, "via", r.Gw.String())
	}
	words = append(words, "dev", quote(device))
	if r.Scope == unix.RT_SCOPE_LINK && r.Family == unix.AF_INET {
		words = append(words, "scope", "link")
	}
	words = append(words, "table", strconv.Itoa(r.Table), "proto", strconv.Itoa(int(r.Protocol)))
	if r.Priority != 0 {
		words = append(words, "metric", strconv.Itoa(r.Priority))
	}
	if r.Flags&int(netlink.FLAG_ONLINK) != 0 {
		words = append(words, "onlink")
	}
	return strings.Join(words, " ")
}

// ruleWords writes a rule as ip(8) reads it.
func ruleWords(r netlink.Rule) string {
	words := []string{"pref " + strconv.Itoa(r.Priority)}
	if r.Invert {
		words = append([]string{"not"}, words...)
	}
	add := func(key, value string) { words = append(words, key, value) }
	if r.Src != nil {
		add("from", r.Src.String())
	} else {
		add("from", "all")
	}
	if r.Dst != nil {
		add("to", r.Dst.String())
	}
	if r.Mark != 0 || r.Mask != nil {
		mark := fmt.Sprintf("%#x", r.Mark)
		if r.Mask != nil && *r.Mask != 0xffffffff {
			mark += fmt.Sprintf("/%#x", *r.Mask)
		}
		add("fwmark", mark)
	}
	if r.IifName != "" {
		add("iif", quote(r.IifName))
	}
	if r.OifName != "" {
		add("oif", quote(r.OifName))
	}
	if r.Table != 0 {
		name := strconv.Itoa(r.Table)
		if r.Table == unix.RT_TABLE_MAIN {
			name = "main"
		}
		add("lookup", name)
	}
	if r.SuppressPrefixlen >= 0 {
		add("suppress_prefixlength", strconv.Itoa(r.SuppressPrefixlen))
	}
	if r.Protocol != 0 && r.Protocol != unix.RTPROT_BOOT && r.Protocol != unix.RTPROT_KERNEL {
		add("protocol", strconv.Itoa(int(r.Protocol)))
	}
	return strings.Join(words, " ")
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

// newPolicy is the policy for a source address of an interface, by a gateway.
func newPolicy(interfaces []machine.Interface, i *machine.Interface, source netip.Addr, way gateway, slot int) policy {
	p := policy{
		slot: slot, device: i.Name, index: i.Index, source: source,
		gateway: way.addr, onlink: way.onlink,
	}
	for n := range interfaces {
		if other := &interfaces[n]; other.Index != i.Index && other.Kind != machine.KindLoopback {
			if network, ok := sameNetwork(i, other, p.family()); ok && network.Contains(source) {
				p.network = network
			}
		}
	}
	return p
}
