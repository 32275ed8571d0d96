package netlab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// AddAddr adds an address to the client's interface of line i, or changes the properties of one that is there.
func (l *Lab) AddAddr(i int, a Addr) {
	l.t.Helper()
	l.changePlugged(i, "adding an address", func(ln *line) error {
		if err := a.check(); err != nil {
			return err
		}
		if err := l.setClientAddr(ln, a); err != nil {
			return fmt.Errorf("%v: %w", a.Prefix, err)
		}
		if known := ln.find(a.Prefix.Addr()); known >= 0 {
			ln.addrs[known] = a
		} else {
			ln.addrs = append(ln.addrs, a)
		}
		return l.setPolicy(ln)
	})
}

// DelAddr removes an address from the client's interface of line i. With the last IPv4 address the kernel removes
// the IPv4 routes; Readdress brings them back.
func (l *Lab) DelAddr(i int, addr netip.Addr) {
	l.t.Helper()
	l.changePlugged(i, "removing an address", func(ln *line) error { return l.delAddr(ln, addr) })
}

func (l *Lab) delAddr(ln *line, addr netip.Addr) error {
	known := ln.find(addr)
	if known < 0 {
		return fmt.Errorf("%v is not one of its addresses", addr)
	}
	prefix := ln.addrs[known].Prefix
	if err := l.client.nl.AddrDel(linkAt(ln.index), &netlink.Addr{IPNet: ipNet(prefix)}); err != nil {
		return fmt.Errorf("%v: %w", prefix, err)
	}
	ln.addrs = slices.Delete(ln.addrs, known, known+1)
	return l.setPolicy(ln)
}

func (ln *line) find(addr netip.Addr) int {
	return slices.IndexFunc(ln.addrs, func(a Addr) bool { return a.Prefix.Addr() == addr })
}

// Readdress gives the client's interface of line i another address in place of IPv4 or IPv6 (whichever family the
// prefix is of), as a DHCP server or a router does that has changed its mind. It must be one of the line's prefix.
func (l *Lab) Readdress(i int, prefix netip.Prefix) {
	l.t.Helper()
	l.changePlugged(i, "changing the address", func(ln *line) error {
		mine, gateway := &ln.cfg.IPv4, ln.cfg.Gateway4
		if prefix.Addr().Is6() {
			mine, gateway = &ln.cfg.IPv6, ln.cfg.Gateway6
		}
		if !mine.IsValid() || mine.Masked() != prefix.Masked() {
			return fmt.Errorf("%v is not an address of the line's prefix %v", prefix, mine.Masked())
		}
		if ln.find(mine.Addr()) >= 0 {
			if err := l.delAddr(ln, mine.Addr()); err != nil {
				return err
			}
		}
		*mine = prefix
		ln.addrs = append(ln.addrs, Addr{Prefix: prefix})
		if err := l.setClientAddr(ln, Addr{Prefix: prefix}); err != nil {
			return fmt.Errorf("%v: %w", prefix, err)
		}
		return errors.Join(l.setDefault(ln, gateway, true), l.setPolicy(ln))
	})
}

// TemporaryAddr returns the temporary address that the kernel has derived from the address with Temporary set.
func (l *Lab) TemporaryAddr(i int, from netip.Prefix) (found netip.Addr) {
	l.t.Helper()
	l.changePlugged(i, "finding the temporary address", func(ln *line) (err error) {
		found, err = l.temporary(ln, from)
		return err
	})
	return found
}

func (l *Lab) temporary(ln *line, from netip.Prefix) (netip.Addr, error) {
	addrs, err := l.client.nl.AddrList(linkAt(ln.index), unix.AF_INET6)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("listing addresses: %w", err)
	}
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ok && a.Flags&unix.IFA_F_TEMPORARY != 0 && a.Flags&unix.IFA_F_TENTATIVE == 0 && from.Masked().Contains(ip) {
			return ip, nil
		}
	}
	return netip.Addr{}, nil
}
