package doctor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"dispatch/dispatcher/machine"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// kernel asks the kernel about routes, rules and neighbours, in the network namespace it was opened in.
type kernel struct{ nl *netlink.Handle }

func openKernel() (*kernel, error) {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	return &kernel{nl}, nil
}

func (k *kernel) close() { k.nl.Close() }

// tries: a dump that a change interrupts is not whole and is asked for again.
const tries = 10

// dump asks until the answer is whole. A kernel without a family has nothing to list of it.
func dump[T any](ask func() ([]T, error)) (list []T, err error) {
	for range tries {
		if list, err = ask(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	return list, err
}

// rules lists the routing rules in the order in which they are asked.
func (k *kernel) rules(f machine.Family) ([]netlink.Rule, error) {
	list, err := dump(func() ([]netlink.Rule, error) { return k.nl.RuleList(ipFamily(f)) })
	if err != nil {
		return nil, fmt.Errorf("list the routing rules of %s: %w", f, err)
	}
	slices.SortStableFunc(list, func(a, b netlink.Rule) int { return a.Priority - b.Priority })
	return list, nil
}

// discardingRules returns the priorities of the rules that blackhole, prohibit or say "unreachable". The library leaves the
// action out, and a rule without a table may also be one for VRFs.
func discardingRules(f machine.Family) (map[int]bool, error) {
	const actionAt = 7 // struct fib_rule_hdr: family, dst_len, src_len, tos, table, res1, res2, action, flags
	answers, err := dump(func() ([][]byte, error) {
		request := nl.NewNetlinkRequest(unix.RTM_GETRULE, unix.NLM_F_DUMP)
		request.AddData(nl.NewIfInfomsg(ipFamily(f)))
		return request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWRULE)
	})
	if err != nil {
		return nil, fmt.Errorf("list the routing rules of %s: %w", f, err)
	}
	found := make(map[int]bool)
	for _, m := range answers {
		if len(m) < unix.SizeofRtMsg || m[actionAt] < unix.FR_ACT_BLACKHOLE || m[actionAt] > unix.FR_ACT_PROHIBIT {
			continue
		}
		attributes, err := nl.ParseRouteAttr(m[unix.SizeofRtMsg:])
		if err != nil {
			return nil, fmt.Errorf("read a routing rule of %s: %w", f, err)
		}
		priority := 0 // the kernel leaves it out
		for _, a := range attributes {
			if a.Attr.Type == nl.FRA_PRIORITY && len(a.Value) == 4 {
				priority = int(binary.NativeEndian.Uint32(a.Value))
			}
		}
		found[priority] = true
	}
	return found, nil
}

// routes lists the routes of all tables that match the filter.
func (k *kernel) routes(f machine.Family, filter netlink.Route, mask uint64) ([]netlink.Route, error) {
	filter.Table = unix.RT_TABLE_UNSPEC
	list, err := dump(func() ([]netlink.Route, error) {
		return k.nl.RouteListFiltered(ipFamily(f), &filter, mask|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list the routes of %s: %w", f, err)
	}
	return list, nil
}

// neighbours lists what is known of the machines on an interface's network.
func (k *kernel) neighbours(f machine.Family, index int) ([]netlink.Neigh, error) {
	list, err := dump(func() ([]netlink.Neigh, error) { return k.nl.NeighList(index, ipFamily(f)) })
	if err != nil {
		return nil, fmt.Errorf("list the neighbours: %w", err)
	}
	return list, nil
}

// answer is the kernel's choice of a route.
type answer struct {
	index   int        // of the interface it leaves by
	gateway netip.Addr // invalid where there is none
	metric  int
	table   int
	flags   int
	bits    int // of the route's prefix
	// err is the errno that a connection would get; nil when there is a route.
	err error
}

// isDefault tells whether the route is a default route, or half of one.
func (a answer) isDefault(f machine.Family) bool { return a.err == nil && a.bits <= suppressed(f) }

// suppressed is the longest prefix that stands for "everywhere": VPNs split the default route in pieces so long.
func suppressed(f machine.Family) int {
	if f == machine.IPv4 {
		return 1
	}
	return 4
}

// lookUp asks which route leads to dst, from source where that is valid, by the interface where index is not 0.
func (k *kernel) lookUp(dst, source netip.Addr, index int) answer {
	options := &netlink.RouteGetOptions{OifIndex: index, FIBMatch: true}
	if source.IsValid() {
		options.SrcAddr = source.AsSlice()
	}
	found, err := k.nl.RouteGetWithOptions(dst.AsSlice(), options)
	if err == nil && len(found) == 0 {
		err = unix.ENETUNREACH
	}
	if err != nil {
		return answer{err: err}
	}
	r := found[0]
	a := answer{index: r.LinkIndex, gateway: gatewayOf(r.Gw, r.Via), metric: r.Priority, table: r.Table, flags: r.Flags}
	if r.Dst != nil {
		a.bits, _ = r.Dst.Mask.Size()
	}
	for _, hop := range r.MultiPath {
		if a.index == 0 || a.index != index {
			a.index, a.gateway, a.flags = hop.LinkIndex, gatewayOf(hop.Gw, hop.Via), hop.Flags
		}
	}
	switch r.Type {
	case unix.RTN_PROHIBIT:
		a.err = unix.EACCES
	case unix.RTN_BLACKHOLE:
		a.err = unix.EINVAL
	case unix.RTN_UNREACHABLE:
		a.err = unix.EHOSTUNREACH
	}
	return a
}

// gatewayOf reads a next hop, which may be of the other family (RFC 8950).
func gatewayOf(gw net.IP, via netlink.Destination) netip.Addr {
	if v, ok := via.(*netlink.Via); ok && v != nil {
		gw = v.Addr
	}
	addr, _ := netip.AddrFromSlice(gw)
	return addr.Unmap()
}

// bound asks for the route that a socket tied to the interface and the source finds. The kernel takes the interface of
// an IPv6 lookup with a source for a wish only, but asks strictly for the socket itself: so does the second lookup.
func (k *kernel) bound(dst, source netip.Addr, index int) answer {
	a := k.lookUp(dst, source, index)
	if dst.Is6() && (a.err != nil || a.index != index) {
		a = k.lookUp(dst, netip.Addr{}, index)
	}
	if a.err == nil && a.index != index {
		return answer{err: unix.ENETUNREACH}
	}
	return a
}
