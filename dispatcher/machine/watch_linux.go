package machine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// quietReread is how often the interfaces are read without any event, for what has none: an IPv6 default route whose
// lifetime (RFC 4861 section 4.2) ends stops to be used long before the kernel removes it.
const quietReread = 30 * time.Second

// openEvents joins the multicast groups of route netlink, in the network namespace of the calling thread. The groups
// are given to bind, which leaves out those that an old kernel does not know; nexthop objects came with Linux 5.3.
func openEvents() (eventSource, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	groups := uint32(0)
	for _, g := range []int{
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
		unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_NEXTHOP,
	} {
		groups |= 1 << (g - 1)
	}
	// The filter first, so that nothing gets past it.
	if err := ignoreLongPrefixes(fd); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return nil, errors.Join(fmt.Errorf("join the groups of route netlink: %w", err), unix.Close(fd))
	}
	return newSocketEvents(fd, "netlink socket", func([]byte) bool { return true })
}

// ignoreLongPrefixes makes the kernel keep back the events of routes that are no default route nor a part of one (see
// route.covers). Where a routing daemon runs there are thousands of them, and each would wake this process.
func ignoreLongPrefixes(fd int) error {
	const (
		kindAt       = 4                       // struct nlmsghdr: len, type, ...
		prefixAt     = unix.SizeofNlMsghdr + 1 // struct rtmsg: family, dst_len, ...
		longest      = 4
		keep, ignore = ^uint32(0), 0
	)
	// The filter's machine reads numbers in network order, netlink has them in the host's.
	kind := func(k uint16) uint32 {
		return uint32(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, k)))
	}
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: kindAt},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: kind(unix.RTM_NEWROUTE), Jt: 1},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: kind(unix.RTM_DELROUTE), Jf: 2},
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: prefixAt},
		{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: longest, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: keep},
		{Code: unix.BPF_RET | unix.BPF_K, K: ignore},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program); err != nil {
		return fmt.Errorf("set SO_ATTACH_FILTER of a netlink socket: %w", err)
	}
	return nil
}
