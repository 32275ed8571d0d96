//go:build darwin || freebsd

package machine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"unsafe"

	rib "golang.org/x/net/route"
	"golang.org/x/sys/unix"
)

// readInterfaces reads links and addresses as package net does, the kind and the flags of IPv6 addresses with an
// ioctl each, and the routing table with one sysctl.
func readInterfaces() (list []Interface, routes map[int][]route, err error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, nil, fmt.Errorf("list links: %w", err)
	}
	c, err := openControl()
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	for n := range links {
		l := &links[n]
		m := c.media(l.Name)
		const up = net.FlagUp | net.FlagRunning
		i := Interface{
			Index: l.Index,
			Name:  l.Name,
			Kind:  bsdKind(l.Name, l.Flags, m),
			Up:    l.Flags&up == up && !m.noCarrier,
		}
		addrs, err := l.Addrs()
		if err != nil {
			return nil, nil, fmt.Errorf("list the addresses of %s: %w", l.Name, err)
		}
		for _, a := range addrs {
			a, ok, err := c.address(l, a)
			if err != nil {
				return nil, nil, err
			}
			if ok {
				i.Addresses = append(i.Addresses, a)
			}
		}
		list = append(list, i)
	}
	routes, err = readRoutes()
	if err != nil {
		return nil, nil, fmt.Errorf("list routes: %w", err)
	}
	return list, routes, nil
}

// control is a socket that interface ioctls are asked on.
type control struct {
	fd     int
	family byte
}

func openControl() (*control, error) {
	var errs []error
	for _, family := range []int{unix.AF_INET6, unix.AF_INET} { // a kernel may lack IPv6
		fd, err := unix.Socket(family, unix.SOCK_DGRAM, 0)
		if err == nil {
			unix.CloseOnExec(fd)
			return &control{fd: fd, family: byte(family)}, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("open a socket to ask about interfaces: %w", errors.Join(errs...))
}

func (c *control) close() error {
	if err := unix.Close(c.fd); err != nil {
		return fmt.Errorf("close the socket to ask about interfaces: %w", err)
	}
	return nil
}

// ioctl asks a question whose number tells how large its struct is (IOCPARM_LEN of sys/ioccom.h).
func (c *control) ioctl(question uint32, b []byte) error {
	if size := int(question >> 16 & 0x1fff); len(b) < size {
		return fmt.Errorf("ioctl %#x takes %d bytes, not %d", question, size, len(b))
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.fd), uintptr(question), uintptr(unsafe.Pointer(&b[0])))
	if errno != 0 {
		return errno
	}
	return nil
}

// media asks what wire an interface has. Many have none and answer with one error or another, which is not told
// apart: the kind and the carrier are then unknown.
func (c *control) media(name string) media {
	b := make([]byte, 64)
	copy(b[:interfaceNameSize-1], name)
	if c.ioctl(unix.SIOCGIFMEDIA, b) != nil {
		return media{}
	}
	return parseMedia(b)
}

// address adds the flags to an address; false when it is gone.
func (c *control) address(l *net.Interface, from net.Addr) (Address, bool, error) {
	ipNet, ok := from.(*net.IPNet)
	if !ok {
		return Address{}, false, nil
	}
	addr, ok := netip.AddrFromSlice(ipNet.IP)
	if !ok {
		return Address{}, false, nil
	}
	addr = addr.Unmap()
	ones, _ := ipNet.Mask.Size()
	a := Address{Prefix: netip.PrefixFrom(addr, ones)}
	if !addr.Is6() || c.family != unix.AF_INET6 {
		return a, a.Prefix.IsValid(), nil
	}
	const getAddressFlags = 0xc1206949 // SIOCGIFAFLAG_IN6: _IOWR('i', 73, struct in6_ifreq)
	b := newAddressRequest(l.Name, c.family, addr, l.Index)
	switch err := c.ioctl(getAddressFlags, b); {
	case errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.ENXIO):
		return Address{}, false, nil
	case err != nil:
		return Address{}, false, fmt.Errorf("ask for the flags of %s on %s: %w", addr, l.Name, err)
	}
	applyAddressFlags(&a, b)
	return a, a.Prefix.IsValid(), nil
}

// readRoutes reads the whole table: these kernels cannot list default routes alone.
func readRoutes() (map[int][]route, error) {
	table, err := rib.FetchRIB(unix.AF_UNSPEC, rib.RIBTypeRoute, 0)
	if err != nil {
		return nil, err
	}
	routes := make(map[int][]route)
	for b := range routingMessages(table) {
		messages, err := rib.ParseRIB(rib.RIBTypeRoute, b)
		if err != nil {
			continue // one route in a form of its own must not hide the others
		}
		for _, m := range messages {
			if m, ok := m.(*rib.RouteMessage); ok {
				if r, ok := parseRoute(m); ok {
					routes[m.Index] = append(routes[m.Index], r)
				}
			}
		}
	}
	return routes, nil
}

// parseRoute keeps routes to networks that packets do leave by. On macOS each interface has a default route of its
// own that only sockets bound to it use (RTF_IFSCOPE); the one of the primary interface lacks that flag and is
// the better by the only measure there is.
func parseRoute(m *rib.RouteMessage) (route, bool) {
	if m.Flags&unix.RTF_UP == 0 || m.Flags&(unix.RTF_HOST|unix.RTF_REJECT|unix.RTF_BLACKHOLE) != 0 ||
		len(m.Addrs) <= unix.RTAX_NETMASK {
		return route{}, false
	}
	dst, mask := addrBytes(m.Addrs[unix.RTAX_DST]), addrBytes(m.Addrs[unix.RTAX_NETMASK])
	r := route{to: maskedPrefix(dst, mask)}
	if m.Flags&unix.RTF_GATEWAY != 0 {
		r.router, _ = netip.AddrFromSlice(addrBytes(m.Addrs[unix.RTAX_GATEWAY]))
	}
	if runtime.GOOS == "darwin" && m.Flags&routeScoped != 0 {
		r.metric = 1
	}
	return r, r.to.IsValid()
}

// addrBytes returns the bytes of an IP address; none for a link address.
func addrBytes(a rib.Addr) []byte {
	switch a := a.(type) {
	case *rib.Inet4Addr:
		return a.IP[:]
	case *rib.Inet6Addr:
		return a.IP[:]
	}
	return nil
}
