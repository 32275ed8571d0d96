//go:build darwin || freebsd

package machine

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"

	rib "golang.org/x/net/route"
	"golang.org/x/sys/unix"
)

// routeScoped is RTF_IFSCOPE of macOS: the route is for sockets that are bound to the interface.
const routeScoped = 0x1000000

// questions numbers the messages of this process.
var questions atomic.Int32

// lookup asks on a route socket (route(4)). Which source a socket is bound to changes nothing on these systems, and on
// FreeBSD none can be bound to a device.
func lookup(dst netip.Addr, device int, source netip.Addr) (p Path, err error) {
	if device != 0 && runtime.GOOS != "darwin" {
		return Path{}, fmt.Errorf("sockets cannot be bound to a device: %w", errors.ErrUnsupported)
	}
	fd, err := unix.Socket(unix.AF_ROUTE, unix.SOCK_RAW, unix.AF_UNSPEC)
	if err != nil {
		return Path{}, fmt.Errorf("open a route socket: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	unix.CloseOnExec(fd)
	// The kernel answers at once; this keeps a lost answer from hanging the caller.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		return Path{}, fmt.Errorf("set SO_RCVTIMEO of a route socket: %w", err)
	}
	question := &rib.RouteMessage{
		Version: unix.RTM_VERSION, Type: unix.RTM_GET, Flags: unix.RTF_UP | unix.RTF_HOST,
		ID: uintptr(os.Getpid()), Seq: int(questions.Add(1)), Addrs: make([]rib.Addr, unix.RTAX_IFP+1),
	}
	question.Addrs[unix.RTAX_DST] = routeAddr(dst)
	question.Addrs[unix.RTAX_IFP] = &rib.LinkAddr{} // asks for the interface and its address
	if device != 0 {
		question.Flags |= routeScoped
		question.Index = device
	}
	b, err := question.Marshal()
	if err != nil {
		return Path{}, err
	}
	if _, err := unix.Write(fd, b); err != nil {
		return Path{}, routeError(err)
	}
	answer, err := readAnswer(fd, question)
	if err != nil {
		return Path{}, err
	}
	return pathOf(answer, device, source)
}

// readAnswer reads past what the kernel tells everybody.
func readAnswer(fd int, question *rib.RouteMessage) (*rib.RouteMessage, error) {
	for b := make([]byte, 2048); ; {
		size, err := unix.Read(fd, b)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read from a route socket: %w", err)
		}
		messages, err := rib.ParseRIB(rib.RIBTypeRoute, b[:size])
		if err != nil {
			continue
		}
		for _, m := range messages {
			if m, ok := m.(*rib.RouteMessage); ok && m.Type == unix.RTM_GET && m.ID == question.ID && m.Seq == question.Seq {
				return m, nil
			}
		}
	}
}

func pathOf(m *rib.RouteMessage, device int, source netip.Addr) (Path, error) {
	switch {
	case m.Err != nil:
		return Path{}, routeError(m.Err)
	case m.Flags&(unix.RTF_REJECT|unix.RTF_BLACKHOLE) != 0:
		return Path{}, fmt.Errorf("%w: the route discards", ErrNoRoute)
	case device != 0 && m.Index != device:
		return Path{}, fmt.Errorf("%w: %w", ErrNoRoute, unix.ENETUNREACH)
	}
	addr := func(which int) []byte {
		if which < len(m.Addrs) {
			return addrBytes(m.Addrs[which])
		}
		return nil
	}
	p := Path{Device: m.Index, Source: source}
	if !source.IsValid() {
		p.Source, _ = netip.AddrFromSlice(addr(unix.RTAX_IFA))
	}
	if m.Flags&unix.RTF_GATEWAY != 0 {
		p.Router, _ = netip.AddrFromSlice(addr(unix.RTAX_GATEWAY))
	}
	if to := addr(unix.RTAX_DST); m.Flags&unix.RTF_HOST == 0 {
		p.To = maskedPrefix(to, addr(unix.RTAX_NETMASK))
	} else if host, ok := netip.AddrFromSlice(to); ok {
		p.To = netip.PrefixFrom(host, host.BitLen())
	}
	return p, nil
}

// routeError tells "no route" from a question that could not be asked.
func routeError(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return fmt.Errorf("%w: %w", ErrNoRoute, err)
	}
	return fmt.Errorf("ask on a route socket: %w", err)
}

func routeAddr(a netip.Addr) rib.Addr {
	if a.Is4() {
		return &rib.Inet4Addr{IP: a.As4()}
	}
	return &rib.Inet6Addr{IP: a.As16()}
}
