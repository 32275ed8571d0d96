package policyroutes

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"dispatch/dispatcher/machine"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var families = []machine.Family{machine.IPv4, machine.IPv6}

// kernel lists and changes routes and rules, in the network namespace it was opened in.
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
	list, err := dump(func() ([]netlink.Rule, error) { return k.nl.RuleList(familyNumber(f)) })
	if err != nil {
		return nil, fmt.Errorf("list the routing rules of %s: %w", f, err)
	}
	slices.SortStableFunc(list, func(a, b netlink.Rule) int { return a.Priority - b.Priority })
	return list, nil
}

// routes lists the routes of all tables that match the filter.
func (k *kernel) routes(f machine.Family, filter netlink.Route, mask uint64) ([]netlink.Route, error) {
	filter.Table = unix.RT_TABLE_UNSPEC
	list, err := dump(func() ([]netlink.Route, error) {
		return k.nl.RouteListFiltered(familyNumber(f), &filter, mask|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list the routes of %s: %w", f, err)
	}
	return list, nil
}

// pointToPoint tells whether an interface's link has but one other end.
func (k *kernel) pointToPoint(index int) bool {
	link, err := k.nl.LinkByIndex(index)
	return err == nil && link.Attrs().Flags&net.FlagPointToPoint != 0
}

// nextHop reads a router, which may be of the other family (RFC 8950).
func nextHop(gw net.IP, via netlink.Destination) netip.Addr {
	if v, ok := via.(*netlink.Via); ok && v != nil {
		gw = v.Addr
	}
	addr, _ := netip.AddrFromSlice(gw)
	return addr.Unmap()
}

// familyNumber is the kernel's number of a family.
func familyNumber(f machine.Family) int {
	if f == machine.IPv4 {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

func familyOf(number int) machine.Family {
	if number == netlink.FAMILY_V6 {
		return machine.IPv6
	}
	return machine.IPv4
}
