package doctor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
)

// discardPort is the port of RFC 863 that nobody serves: only that a packet reaches its host is of interest.
const discardPort = 9

// zoneOf is the line's interface as a zone of IPv6: by its number, as package net keeps the numbers of names for a minute.
func zoneOf(l *line) string { return strconv.Itoa(l.iface.Index) }

// examineLines makes the checks that concern a line by itself.
func (e *examination) examineLines(ctx context.Context) {
	for _, l := range e.lines {
		if !e.examineLink(l) {
			continue
		}
		e.examineSources(l)
		for _, f := range families {
			if !l.source[f].IsValid() {
				continue
			}
			connectErr := e.examineBinding(ctx, l, f)
			if !l.broken[f] {
				e.examineRoutes(l, f, connectErr)
			}
		}
		examineMTU(l)
		e.examineSystem(l)
	}
	e.examineRouters(ctx)
}

// examineLink says whether there is a link to look at further.
func (e *examination) examineLink(l *line) bool {
	switch {
	case l.iface == nil && l.spec.Addr.IsValid():
		e.explainLostAddress(l)
		return false
	case l.iface == nil:
		l.fail(CheckInterface, 0, nil, "there is no interface %s; the machine has %s", l.spec.Name, e.names())
		return false
	case l.iface.Kind == machine.KindLoopback:
		l.fail(CheckInterface, 0, nil, "%s is the loopback interface, which leads nowhere; name another", l.Interface)
		return false
	case l.link.Flags&net.FlagUp == 0:
		l.fail(CheckInterface, 0, e.raise(l), "%s is switched off%s", l.Interface, e.afterwards(l))
		return false
	}
	l.pass(CheckInterface, 0, "%s is switched on", l.Interface)
	if !l.iface.Up {
		what := "plug its cable in, or look whether the other end is switched on"
		switch l.iface.Kind {
		case machine.KindWiFi:
			what = "join a network"
		case machine.KindMobile:
			what = "connect the modem"
		case machine.KindPPP:
			what = "dial in"
		case machine.KindTunnel:
			what = "connect the VPN"
		}
		l.fail(CheckCarrier, 0, nil, "%s has no carrier: %s", l.Interface, what)
		return false
	}
	l.pass(CheckCarrier, 0, "%s has a carrier", l.Interface)
	return true
}

func (e *examination) names() string {
	names := make([]string, 0, len(e.interfaces))
	for _, i := range e.interfaces {
		names = append(names, i.Name)
	}
	return strings.Join(names, ", ")
}

// explainLostAddress: the user named an address that no interface has.
func (e *examination) explainLostAddress(l *line) {
	for n := range e.interfaces {
		i := &e.interfaces[n]
		for _, a := range i.Addresses {
			if a.Prefix.Masked().Contains(l.spec.Addr) && !a.Prefix.IsSingleIP() && a.Prefix.Bits() > 0 {
				l.fail(CheckSource, machine.FamilyOf(l.spec.Addr), nil,
					"no interface has the address %s now; %s, on the same network, has %s: naming the uplink %s follows such changes",
					l.spec.Addr, i.Name, a.Prefix.Addr(), i.Name)
				return
			}
		}
	}
	l.fail(CheckSource, machine.FamilyOf(l.spec.Addr), nil,
		"no interface has the address %s now; name the interface instead, which follows address changes: one of %s", l.spec.Addr, e.names())
}

// examineSources says for each family whether there is an address to leave from. To lack IPv6 is nothing bad, nor is it to
// lack IPv4 where no line has it.
func (e *examination) examineSources(l *line) {
	for _, f := range families {
		if source := l.source[f]; source.IsValid() {
			l.pass(CheckSource, f, "connections leave from %s", source)
		}
	}
	if len(l.source) > 0 {
		e.examineLackOfIPv4(l)
		return
	}
	why := "it has no address"
	for _, a := range l.iface.Addresses {
		addr := a.Prefix.Addr()
		if l.spec.Addr.IsValid() && addr != l.spec.Addr {
			continue
		}
		if usable, reason := a.Usable(); !usable {
			why = "its address " + addr.String() + " is " + reason
			if !addr.IsLinkLocalUnicast() {
				break
			}
		} else if addr.Is6() && addr.IsPrivate() {
			why = "its only address " + addr.String() + " is a unique local one, and it has no default route"
		}
	}
	commands, advice := e.readdress(l)
	l.fail(CheckSource, 0, commands, "%s has no address that connections can leave from: %s%s", l.Interface, why, advice)
}

// examineLackOfIPv4: a line that has IPv6 only has mostly lost the other.
func (e *examination) examineLackOfIPv4(l *line) {
	if l.source[machine.IPv4].IsValid() || !l.wants(machine.IPv4) {
		return
	}
	commands, advice := e.readdress(l)
	others := slices.ContainsFunc(e.lines, func(o *line) bool { return o.source[machine.IPv4].IsValid() })
	if len(commands) > 0 || others {
		l.warn(CheckSource, machine.IPv4, commands, "%s has no IPv4 address that connections can leave from, so it carries IPv6 only%s",
			l.Interface, advice)
	}
}

// examineBinding opens a socket as a connection's would be, and connects it without sending anything. It returns the
// error of connecting, which tells of routes.
func (e *examination) examineBinding(ctx context.Context, l *line, f machine.Family) error {
	conn, err := l.way.DialUDP(ctx, netip.AddrPortFrom(machine.Far(f)[0], discardPort))
	if err == nil {
		err = conn.Close()
	}
	var stage *os.SyscallError
	if errors.As(err, &stage) && stage.Syscall == "wsaioctl" {
		err = nil // Wine lacks an option that package net sets on Windows, which says nothing of the line
	}
	if err == nil || errors.As(err, &stage) && stage.Syscall == "connect" {
		e.passBinding(l, f)
		return err
	}
	l.broken[f] = true
	bind, tied := errors.AsType[*uplink.BindError](err)
	switch {
	case tied && uplink.FailureOf(err) == uplink.Forbidden:
		commands, why := e.allowBinding()
		l.fail(CheckBind, f, commands, "this user may not tie a socket to %s (%s is refused): %s", bind.Device, bind.Option, why)
	case !tied && uplink.FailureOf(err) == uplink.LineUnusable:
		l.fail(CheckBind, f, nil, "the address %s went away while it was looked at; run this again", l.source[f])
	default:
		l.fail(CheckBind, f, nil, "a socket cannot be tied to %s: %v", l.Interface, err)
	}
	return nil
}

// examineMTU: 1280 is what IPv6 demands of every link (RFC 8200 section 5), 576 what every IPv4 host takes in (RFC 791).
func examineMTU(l *line) {
	mtu, ethernet := l.link.MTU, l.iface.Kind == machine.KindEthernet || l.iface.Kind == machine.KindWiFi
	var usual []string // others, such as tunnels, have what their carrier leaves them
	if ethernet {
		usual = setMTU(l.Interface)
	}
	switch {
	case mtu < 576, mtu < 1280 && len(l.iface.Addresses) > 0 && l.wants(machine.IPv6):
		l.warn(CheckMTU, 0, usual, "packets of at most %d bytes fit; IPv6 needs 1280, and some servers do not cope with less", mtu)
	case mtu > 1500 && ethernet:
		l.warn(CheckMTU, 0, usual, "it sends packets of up to %d bytes, which only works when everything on its network does; 1500 is usual", mtu)
	default:
		l.pass(CheckMTU, 0, "packets of up to %d bytes fit", mtu)
	}
}

// noteVPN compares a line with the tunnel that owns the default route.
func noteVPN(l *line, f machine.Family, owner *machine.Interface) {
	switch {
	case owner == nil:
		l.pass(CheckVPN, f, "no VPN owns the default route")
	case owner.Index == l.iface.Index:
		l.warn(CheckVPN, f, nil, "%s is a VPN that owns the default route, and is itself carried by another line", owner.Name)
	default:
		l.warn(CheckVPN, f, nil, "the VPN %s owns the default route; connections by %s go past it", owner.Name, l.Interface)
	}
}
