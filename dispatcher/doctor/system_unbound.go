//go:build !linux && !darwin && !windows

package doctor

import (
	"net"
	"net/netip"
	"strings"

	"dispatch/dispatcher/machine"
)

// system: FreeBSD and its like tie no socket to an interface, so the machine's own routing decides.
type system struct{}

func (system) open() error { return nil }

// routedByInterface: a socket that is tied to an interface leaves by that interface's own default route.
const routedByInterface = false

func (e *examination) examineSystem(*line) {}

func missingRoute(l *line, f machine.Family) ([]string, string) {
	if f == machine.IPv6 {
		return nil, "see whether it accepts what routers announce: 'ifconfig " + l.Interface + " inet6 accept_rtadv' and rtsold(8)"
	}
	return nil, "the routing table holds one for each destination; a rule of pf sends what has its source by its router"
}

func renew(name string) []string { return []string{"dhclient " + quote(name)} }

func switchOn(name string) []string { return []string{"ifconfig " + quote(name) + " up"} }

func setMTU(name string) []string { return []string{"ifconfig " + quote(name) + " mtu 1500"} }

// passBinding: what this system can do is less than the others.
func (e *examination) passBinding(l *line, f machine.Family) {
	owner := l.Interface
	p, err := machine.Lookup(machine.Far(f)[0], 0, netip.Addr{})
	if i := e.byIndex(p.Device); err == nil && i != nil {
		owner = i.Name
	}
	if owner == l.Interface {
		l.pass(CheckBind, f, "connections leave from %s; this system has no means to tie them to %s", l.source[f], l.Interface)
		return
	}
	word := "inet"
	if f == machine.IPv6 {
		word = "inet6"
	}
	l.warn(CheckBind, f, nil, "this system cannot tie a connection to %s, and its default route is by %s; a rule of pf does it: pass out route-to (%s ROUTER) %s from %s to any",
		l.Interface, owner, l.Interface, word, l.source[f])
}

func (e *examination) allowBinding() (commands []string, why string) {
	return nil, "a firewall or a jail does not allow it"
}

// packetsSent: package net does not tell.
func packetsSent(*net.Interface) (int64, bool) { return 0, false }

// boundTo: there is no such thing here.
func boundTo(*net.TCPConn) string { return "" }

func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
