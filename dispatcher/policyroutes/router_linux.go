package policyroutes

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"

	"dispatch/dispatcher/machine"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Router is the way out of an interface's network.
type Router struct {
	// Addr is invalid where the link has but one other end.
	Addr netip.Addr
	// Origin says where it is known from, as a sentence goes on: "the routing table 254".
	Origin string
	// Table is the routing table that has a default route by it; 0 where it is known from elsewhere.
	Table int
}

// FindRouter looks for the router of what leaves by an interface from one of its addresses: in the routes that sockets find
// which are bound to both, in those they do not, and among the neighbours. What this program has installed itself comes
// last. interfaces are all there are.
func FindRouter(interfaces []machine.Interface, i *machine.Interface, source netip.Addr) (Router, bool, error) {
	k, err := openKernel()
	if err != nil {
		return Router{}, false, err
	}
	defer k.close()
	r, ok := k.findRouter(interfaces, i, source)
	return r, ok, nil
}

func (k *kernel) findRouter(interfaces []machine.Interface, i *machine.Interface, source netip.Addr) (Router, bool) {
	f := machine.FamilyOf(source)
	var ours Router
	var found []Router
	if p, err := machine.Lookup(machine.Far(f)[0], i.Index, source); err == nil && p.IsDefault() {
		r := Router{p.Router, "its default route", p.Table}
		if _, own := ownerOfTable(p.Table); own {
			ours = r
		} else {
			found = append(found, r)
		}
	}
	alone := k.pointToPoint(i.Index)
	routes, err := k.routes(f, netlink.Route{LinkIndex: i.Index}, netlink.RT_FILTER_OIF)
	if err != nil {
		routes = nil // a table that cannot be read is one source less
	}
	found = append(found, defaultRouters(routes, f, alone)...)
	// An interface may have an address from each of several routers: the one that counts is on the source's own network.
	for _, r := range found {
		if i.Adjoins(source, r.Addr) {
			return r, true
		}
	}
	if len(found) > 0 {
		return found[0], true
	}
	if alone {
		return Router{Origin: "it has but one other end, which needs no router's address"}, true
	}
	if addr, ok := routerAmong(i, source); ok {
		return Router{Addr: addr, Origin: "the neighbour table"}, true
	}
	if r, ok := neighbourRouter(interfaces, i, source); ok {
		return r, true
	}
	if addr, ok := hostRouter(routes); ok && i.Adjoins(source, addr) {
		return Router{Addr: addr, Origin: "the route to a single host by it, as VPNs make one"}, true
	}
	return ours, ours.Origin != ""
}

// defaultRouters lists those of the default routes of all tables, the main one's first and then by metric, save our own.
func defaultRouters(routes []netlink.Route, f machine.Family, alone bool) (found []Router) {
	slices.SortStableFunc(routes, func(a, b netlink.Route) int {
		aside := func(r netlink.Route) int { return min(1, max(r.Table-unix.RT_TABLE_MAIN, unix.RT_TABLE_MAIN-r.Table)) }
		return cmp.Or(cmp.Compare(aside(a), aside(b)), cmp.Compare(a.Priority, b.Priority))
	})
	for _, r := range routes {
		if _, own := ownerOfTable(r.Table); own || r.Type != unix.RTN_UNICAST || prefixLength(r) > machine.LongestDefault(f) {
			continue
		}
		if addr := nextHop(r.Gw, r.Via); addr.IsValid() || alone {
			found = append(found, Router{addr, "the routing table " + strconv.Itoa(r.Table), r.Table})
		}
	}
	return found
}

func prefixLength(r netlink.Route) int {
	if r.Dst == nil {
		return 0
	}
	ones, _ := r.Dst.Mask.Size()
	return ones
}

// routerAmong returns the neighbour that has called itself a router. With several, it is not for us to choose.
func routerAmong(i *machine.Interface, source netip.Addr) (found netip.Addr, ok bool) {
	list, err := machine.Neighbours(machine.FamilyOf(source), i.Index)
	if err != nil {
		return netip.Addr{}, false // one source less
	}
	for _, n := range list {
		if !n.Router || n.State&(unix.NUD_FAILED|unix.NUD_INCOMPLETE) != 0 || !i.Adjoins(source, n.Addr) {
			continue
		}
		// One router may be known by its link-local and by a global address; routers go by the former.
		switch {
		case !ok, !found.IsLinkLocalUnicast() && n.Addr.IsLinkLocalUnicast():
			found, ok = n.Addr, true
		case found.IsLinkLocalUnicast() == n.Addr.IsLinkLocalUnicast():
			return netip.Addr{}, false
		}
	}
	return found, ok
}

// neighbourRouter returns the router of another interface on the same network.
func neighbourRouter(interfaces []machine.Interface, i *machine.Interface, source netip.Addr) (Router, bool) {
	f := machine.FamilyOf(source)
	for n := range interfaces {
		other := &interfaces[n]
		if other.Index == i.Index {
			continue
		}
		_, same := machine.SharedNetwork(i, other, f)
		if r, ok := other.DefaultRoute(f); same && ok && i.Adjoins(source, r.Router) {
			return Router{Addr: r.Router, Origin: "the default route of " + other.Name + " on the same network"}, true
		}
	}
	return Router{}, false
}

// hostRouter returns the one router of the routes to single hosts.
func hostRouter(routes []netlink.Route) (found netip.Addr, ok bool) {
	for _, r := range routes {
		if r.Dst == nil || r.Type != unix.RTN_UNICAST {
			continue
		}
		ones, bits := r.Dst.Mask.Size()
		addr := nextHop(r.Gw, r.Via)
		if ones != bits || !addr.IsValid() {
			continue
		}
		if ok && addr != found {
			return netip.Addr{}, false
		}
		found, ok = addr, true
	}
	return found, ok
}
