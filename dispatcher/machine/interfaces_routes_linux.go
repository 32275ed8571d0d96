package machine

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// routes finds the routes that cover the internet, or half of it, for each interface.
//
// The obvious way, a dump of the routing tables, is not taken: no filter of the kernel's selects default routes
// (strict checking knows table, protocol, type and device only), IPv6 tables are dumped with the default route
// last, so a router would have to copy out its whole BGP table every second; and what `ip rule` makes of the
// tables would have to be repeated here. A lookup (RTM_GETROUTE with RTM_F_FIB_MATCH, Linux 4.13) costs the same
// however many routes there are, and its answer is the one that the connection will get: the matching route
// with its prefix, after all rules, multipath and nexthop objects.
//
// A lookup needs a destination. One far away from all assigned addresses cannot have a more specific route of
// its own, save where a router discards unassigned space: so there is a second try for each half. A host on
// which both are routed more specifically, or discarded, shows no default route, nor does an older kernel.
func (n *rtnetlink) routes(links []link, byIndex map[int]*Interface) (map[int][]route, error) {
	bySource, err := n.rulesBySource()
	if err != nil {
		return nil, err
	}
	routes := make(map[int][]route)
	for _, l := range links {
		if !l.routable() {
			continue
		}
		for _, f := range []Family{IPv4, IPv6} {
			sources := []netip.Addr{{}}
			if bySource {
				sources = append(sources, byIndex[l.index].sources(f)...)
			}
			for _, source := range sources {
				found, err := n.farRoutes(f, l.index, source)
				if err != nil {
					return nil, err
				}
				routes[l.index] = append(routes[l.index], found...)
			}
		}
	}
	return routes, nil
}

// routable tells whether routes can leave by the link: not while it is down, and not by itself while it is a port of
// a bridge or a bond, as hundreds may be on a host of containers.
func (l *link) routable() bool {
	return l.flags&unix.IFF_UP != 0 && l.flags&unix.IFF_LOOPBACK == 0 && (l.port == "" || l.port == "vrf")
}

// sources lists the addresses of family f that a connection may leave from.
func (i *Interface) sources(f Family) []netip.Addr {
	var addrs []netip.Addr
	for _, a := range i.Addresses {
		if addr := a.Prefix.Addr(); FamilyOf(addr) == f && !addr.IsLinkLocalUnicast() {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// rulesBySource tells whether any rule looks at the source address: without one, asking for each address would
// give the same answer as asking for none.
func (n *rtnetlink) rulesBySource() (bool, error) {
	answer, err := n.dump(unix.RTM_GETRULE, make([]byte, unix.SizeofRtMsg))
	if errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil // a kernel without policy routing
	}
	if err != nil {
		return false, err
	}
	for m := range messages(answer) {
		// struct fib_rule_hdr: family, dst_len, src_len, ...
		if m.kind == unix.RTM_NEWRULE && len(m.body) > 2 && m.body[2] != 0 {
			return true, nil
		}
	}
	return false, nil
}

// farProbes are destinations in the lower (0) and upper (1) half of what route.covers wants covered.
func farProbes(f Family, half int) [2]netip.Addr {
	switch {
	case f == IPv4 && half == 0:
		return [2]netip.Addr{netip.AddrFrom4([4]byte{0, 0, 0, 1}), netip.AddrFrom4([4]byte{126, 255, 255, 254})}
	case f == IPv4:
		return [2]netip.Addr{netip.AddrFrom4([4]byte{255, 255, 255, 254}), netip.AddrFrom4([4]byte{223, 255, 255, 254})}
	case half == 0:
		return [2]netip.Addr{netip.AddrFrom16([16]byte{0x20, 0, 15: 1}), netip.AddrFrom16([16]byte{0x2f, 0xff, 15: 1})}
	}
	return [2]netip.Addr{netip.AddrFrom16([16]byte{0x3f, 0xff, 0xff, 15: 1}), netip.AddrFrom16([16]byte{0x30, 0, 15: 1})}
}

// farRoutes asks for the routes of a connection that is bound to the device, and to source where that is valid.
// It returns nothing, one route that covers both halves, or two that cover one each.
func (n *rtnetlink) farRoutes(f Family, device int, source netip.Addr) ([]route, error) {
	var found []route
	for half := range 2 {
		if len(found) > 0 && found[0].covers(f, half) {
			break
		}
		at := len(found)
		for _, probe := range farProbes(f, half) {
			r, ok, err := n.lookUp(probe, device, source)
			if err != nil {
				return nil, err
			}
			if ok && r.covers(f, half) {
				found = append(found, r)
				break
			}
		}
		if len(found) == at {
			return nil, nil // one half alone is no default route
		}
	}
	return found, nil
}

// lookUp asks for the route of dst by the device; false means there is none.
func (n *rtnetlink) lookUp(dst netip.Addr, device int, source netip.Addr) (route, bool, error) {
	r, err := n.matchingRoute(dst, device, source)
	if noRoute(err) {
		return route{}, false, nil
	}
	return r.route, err == nil && r.kind == unix.RTN_UNICAST && r.leaves == leavesByDevice && r.to.IsValid(), err
}

// matchingRoute asks for the route that the kernel finds, as the table has it. With a device and an IPv6 source it may
// leave elsewhere.
func (n *rtnetlink) matchingRoute(dst netip.Addr, device int, source netip.Addr) (reply, error) {
	r, err := n.askRoute(dst, device, source, unix.RTM_F_FIB_MATCH|unix.RTM_F_LOOKUP_TABLE)
	if r.leaves == leavesUntold && (dst.Is4() || !source.IsValid()) {
		r.leaves = leavesByDevice
	}
	return r, err
}

// askRoute asks for a route with RTM_GETROUTE; device 0 and an invalid source leave the choice to the kernel.
func (n *rtnetlink) askRoute(dst netip.Addr, device int, source netip.Addr, flags uint32) (reply, error) {
	var room [80]byte
	b := room[:unix.SizeofRtMsg]
	b[0], b[1] = unix.AF_INET, byte(dst.BitLen()) // struct rtmsg: family, dst_len, src_len, ...
	if dst.Is6() {
		b[0] = unix.AF_INET6
	}
	binary.NativeEndian.PutUint32(b[8:], flags)
	b = appendAttribute(b, unix.RTA_DST, dst.AsSlice())
	if device != 0 {
		b = appendAttribute32(b, unix.RTA_OIF, uint32(device))
	}
	if source.IsValid() {
		b[2] = byte(source.BitLen())
		b = appendAttribute(b, unix.RTA_SRC, source.AsSlice())
	}
	m, err := n.ask(unix.RTM_GETROUTE, b)
	if err != nil || m.kind != unix.RTM_NEWROUTE {
		return reply{}, err
	}
	return parseRoute(m.body, device), nil
}

// noRoute tells whether the kernel's answer to a lookup means that nothing leads there: no route, a blackhole
// (EINVAL), a prohibiting (EACCES), unreachable or throwing (EAGAIN) one, a device or address that went away
// meanwhile, or a kernel without this family or without lookups.
func noRoute(err error) bool {
	var refused refusedError
	return errors.As(err, &refused) && slices.Contains([]unix.Errno{
		unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ESRCH, unix.EINVAL, unix.EACCES, unix.EAGAIN,
		unix.ENODEV, unix.ENXIO, unix.ENETDOWN, unix.EADDRNOTAVAIL, unix.EOPNOTSUPP, unix.EAFNOSUPPORT,
	}, refused.errno)
}

// leaving says whether a route leaves by the device it was looked up for. The kernel takes the device of a lookup
// with an IPv6 source for a wish only, so that must be checked. Of a nexthop object it may tell no more than the
// number (sysctl net.ipv4.nexthop_compat_mode = 0).
type leaving uint8

const (
	leavesElsewhere leaving = iota
	leavesUntold
	leavesByDevice
)

// reply is a route as the kernel tells it.
type reply struct {
	route
	kind   byte       // RTN_UNICAST, RTN_LOCAL, RTN_BLACKHOLE, ...; 0 where there was no route in the answer
	device int        // that the route, or the first of its hops, leaves by; 0 where it is not told
	source netip.Addr // RTA_PREFSRC: the route's own, or the kernel's choice
	table  int
	leaves leaving
}

// parseRoute reads a struct rtmsg and its attributes. Of several hops it takes the device's; device 0 is the first's.
func parseRoute(b []byte, device int) reply {
	if len(b) < unix.SizeofRtMsg {
		return reply{}
	}
	r := reply{kind: b[7], table: int(b[4]), leaves: leavesUntold}
	dst := netip.IPv4Unspecified()
	if b[0] == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	for kind, value := range attributes(b[unix.SizeofRtMsg:]) {
		switch kind {
		case unix.RTA_DST:
			if a, ok := netip.AddrFromSlice(value); ok {
				dst = a
			}
		case unix.RTA_PRIORITY:
			r.metric = int(uint32Of(value))
		case unix.RTA_TABLE: // the header has room for numbers up to 255
			r.table = int(uint32Of(value))
		case unix.RTA_PREFSRC:
			r.source, _ = netip.AddrFromSlice(value)
		case unix.RTA_OIF:
			r.device, r.leaves = int(uint32Of(value)), leavesElsewhere
			if device == 0 || r.device == device {
				r.leaves = leavesByDevice
			}
		case unix.RTA_MULTIPATH:
			r.leaves = leavesElsewhere
			if by, router, ok := parseNexthops(value, device); ok {
				r.device, r.router, r.leaves = by, router, leavesByDevice
			}
		default:
			if router, ok := parseNextHop(kind, value); ok {
				r.router = router
			}
		}
	}
	r.to = netip.PrefixFrom(dst, int(b[1]))
	return r
}

// parseNexthops finds the device's router, or the first one, in a list of struct rtnexthop; false when there is none.
func parseNexthops(b []byte, device int) (by int, router netip.Addr, ok bool) {
	for len(b) >= unix.SizeofRtNexthop {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			break
		}
		if by = int(int32(binary.NativeEndian.Uint32(b[4:]))); device == 0 || by == device {
			for kind, value := range attributes(b[unix.SizeofRtNexthop:size]) {
				if a, ok := parseNextHop(kind, value); ok {
					return by, a, true
				}
			}
			return by, netip.Addr{}, true
		}
		b = b[min(align4(size), len(b)):]
	}
	return 0, netip.Addr{}, false
}

// parseNextHop reads RTA_GATEWAY, or RTA_VIA: a router of the other family (struct rtvia), as when IPv4 goes
// through an IPv6 router (RFC 8950).
func parseNextHop(kind uint16, value []byte) (netip.Addr, bool) {
	switch kind {
	case unix.RTA_GATEWAY:
		return netip.AddrFromSlice(value)
	case unix.RTA_VIA:
		if len(value) > 2 {
			return netip.AddrFromSlice(value[2:])
		}
	}
	return netip.Addr{}, false
}
