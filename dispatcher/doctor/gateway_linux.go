package doctor

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"dispatch/dispatcher/machine"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// gateway is a way out of an interface's network.
type gateway struct {
	addr   netip.Addr // invalid: the link has but one other end
	onlink bool       // it is on no network of the interface
	origin string     // who says so
}

// findGateway looks for the line's router: in the routes that its sockets find, in those they do not, and among its
// neighbours. What this program has installed itself comes last.
func (k *kernel) findGateway(interfaces []machine.Interface, l *line, f machine.Family) (gateway, bool) {
	var ours gateway
	var ways []gateway
	found := k.bound(far(f)[0], l.source[f], l.iface.Index)
	if found.isDefault(f) {
		way := gateway{addr: found.gateway, onlink: found.flags&unix.RTNH_F_ONLINK != 0, origin: "its default route"}
		if _, own := slotOfTable(found.table); own {
			ours = way
		} else {
			ways = append(ways, way)
		}
	}
	routes, err := k.routes(f, netlink.Route{LinkIndex: l.iface.Index}, netlink.RT_FILTER_OIF)
	if err != nil {
		routes = nil // a table that cannot be read is one source less
	}
	ways = append(ways, defaults(l, f, routes)...)
	// An interface may have an address from each of several routers: the line's is the one on its own network.
	for _, way := range ways {
		if l.adjoins(f, way.addr) {
			return way, true
		}
	}
	if len(ways) > 0 {
		return ways[0], true
	}
	if l.alone() {
		return gateway{origin: "it has but one other end, which needs no router's address"}, true
	}
	if addr, ok := k.routerAmong(l, f); ok {
		return gateway{addr: addr, origin: "the neighbour table"}, true
	}
	if way, ok := neighbourRouter(interfaces, l, f); ok {
		return way, true
	}
	if addr, ok := hostRouter(routes); ok && l.adjoins(f, addr) {
		return gateway{addr: addr, origin: "the route to a single host by it, as VPNs make one"}, true
	}
	return ours, ours.origin != ""
}

// defaults lists the default routes of all tables, the main one's first and then by metric, save our own.
func defaults(l *line, f machine.Family, routes []netlink.Route) (ways []gateway) {
	slices.SortStableFunc(routes, func(a, b netlink.Route) int {
		aside := func(r netlink.Route) int { return min(1, max(r.Table-unix.RT_TABLE_MAIN, unix.RT_TABLE_MAIN-r.Table)) }
		return cmp.Or(cmp.Compare(aside(a), aside(b)), cmp.Compare(a.Priority, b.Priority))
	})
	for _, r := range routes {
		if _, own := slotOfTable(r.Table); own || r.Type != unix.RTN_UNICAST || prefixLength(r) > suppressed(f) {
			continue
		}
		way := gateway{
			addr: gatewayOf(r.Gw, r.Via), onlink: r.Flags&unix.RTNH_F_ONLINK != 0,
			origin: "the routing table " + strconv.Itoa(r.Table),
		}
		if way.addr.IsValid() || l.alone() {
			ways = append(ways, way)
		}
	}
	return ways
}

// alone tells whether the link has but one other end.
func (l *line) alone() bool { return l.link.Flags&net.FlagPointToPoint != 0 }

// adjoins tells whether an address is on the network of the line's source.
func (l *line) adjoins(f machine.Family, addr netip.Addr) bool {
	for _, a := range l.iface.Addresses {
		if network := a.Prefix.Masked(); network.Contains(addr) && network.Contains(l.source[f]) {
			return true
		}
	}
	return addr.Is6() && addr.IsLinkLocalUnicast()
}

func prefixLength(r netlink.Route) int {
	if r.Dst == nil {
		return 0
	}
	ones, _ := r.Dst.Mask.Size()
	return ones
}

// routerAmong returns the neighbour that has called itself a router (RFC 4861 section 4.4). With several, it is not for
// us to choose.
func (k *kernel) routerAmong(l *line, f machine.Family) (found netip.Addr, ok bool) {
	list, err := k.neighbours(f, l.iface.Index)
	if err != nil {
		return netip.Addr{}, false
	}
	for _, n := range list {
		addr, valid := netip.AddrFromSlice(n.IP)
		if !valid || n.Flags&netlink.NTF_ROUTER == 0 || n.State&(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE) != 0 || !l.adjoins(f, addr.Unmap()) {
			continue
		}
		// One router may be known by its link-local and by a global address; routers go by the former.
		switch {
		case !ok, !found.IsLinkLocalUnicast() && addr.IsLinkLocalUnicast():
			found, ok = addr.Unmap(), true
		case found.IsLinkLocalUnicast() == addr.IsLinkLocalUnicast():
			return netip.Addr{}, false
		}
	}
	return found, ok
}

// neighbourRouter returns the router of another interface on the same network.
func neighbourRouter(interfaces []machine.Interface, l *line, f machine.Family) (gateway, bool) {
	for n := range interfaces {
		other := &interfaces[n]
		if other.Index == l.iface.Index {
			continue
		}
		_, same := sameNetwork(l.iface, other, f)
		if r, ok := other.DefaultRoute(f); same && ok && l.adjoins(f, r.Gateway) {
			return gateway{addr: r.Gateway, origin: "the default route of " + other.Name + " on the same network"}, true
		}
	}
	return gateway{}, false
}

// hostRouter returns the one gateway of the routes to single hosts.
func hostRouter(routes []netlink.Route) (found netip.Addr, ok bool) {
	for _, r := range routes {
		if r.Dst == nil || r.Type != unix.RTN_UNICAST {
			continue
		}
		ones, bits := r.Dst.Mask.Size()
		gw := gatewayOf(r.Gw, r.Via)
		if ones != bits || !gw.IsValid() {
			continue
		}
		if ok && gw != found {
			return netip.Addr{}, false
		}
		found, ok = gw, true
	}
	return found, ok
}
