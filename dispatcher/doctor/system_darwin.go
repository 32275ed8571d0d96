package doctor

import (
	"errors"
	"net"
	"strings"

	"dispatch/dispatcher/machine"

	"golang.org/x/sys/unix"
)

// system: macOS needs nothing more than what uplink lists.
type system struct{}

func (system) open() error { return nil }

// routedByInterface: a socket that is tied to an interface leaves by that interface's own default route.
const routedByInterface = true

func (e *examination) examineSystem(*line) {}

// missingRoute takes the router from the lease, as configd does when it makes an interface's own default route.
func missingRoute(l *line, f machine.Family) ([]string, string) {
	name := quote(l.Interface)
	if f == machine.IPv6 {
		return nil, "no router announces itself on its network; look at the router's IPv6 settings"
	}
	return []string{"route add -ifscope " + name + " default $(ipconfig getoption " + name + " router)"},
		"where its address was set by hand, set its router in the Network settings"
}

func renew(name string) []string { return []string{"ipconfig set " + quote(name) + " DHCP"} }

func switchOn(name string) []string { return []string{"ifconfig " + quote(name) + " up"} }

func setMTU(name string) []string { return []string{"networksetup -setMTU " + quote(name) + " 1500"} }

func (e *examination) passBinding(l *line, f machine.Family) {
	l.pass(CheckBind, f, "this user can tie a socket to %s and %s", l.Interface, l.source[f])
}

func (e *examination) allowBinding() (commands []string, why string) {
	return nil, "a firewall or a sandbox does not allow it"
}

// packetsSent: package net does not tell.
func packetsSent(*net.Interface) (int64, bool) { return 0, false }

// boundTo asks for IP_BOUND_IF or IPV6_BOUND_IF.
func boundTo(conn *net.TCPConn) string {
	raw, err := conn.SyscallConn()
	local, isTCP := conn.LocalAddr().(*net.TCPAddr)
	if err != nil || !isTCP {
		return ""
	}
	level, option := unix.IPPROTO_IPV6, unix.IPV6_BOUND_IF
	if local.IP.To4() != nil {
		level, option = unix.IPPROTO_IP, unix.IP_BOUND_IF
	}
	index, optionErr := 0, error(nil)
	err = raw.Control(func(fd uintptr) { index, optionErr = unix.GetsockoptInt(int(fd), level, option) })
	if errors.Join(err, optionErr) != nil {
		return ""
	}
	i, err := net.InterfaceByIndex(index)
	if err != nil {
		return ""
	}
	return i.Name
}

func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
