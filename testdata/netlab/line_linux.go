package netlab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The interfaces of an ISP's router.
const (
	ispLine = "line" // to the client
	ispCore = "core" // to the internet
)

// line is one line, from the client's interface to the internet's.
type line struct {
	cfg   Uplink // Readdress, SetDefault4, SetDefault6 and SetRate change it; its prefixes stay
	addrs []Addr // that the client's interface should have
	table int    // for its policy routes
	isp   *Machine

	index, ispIndex int // of the client's interface and of ispLine; 0 while unplugged
	clientUp, ispUp bool
	silenced, muted bool
	policy          []*netlink.Rule // the rules that setPolicy has added
}

// addLine builds line i, from the internet's end to the client's.
func (l *Lab) addLine(i int, u Uplink) (err error) {
	ln := &line{cfg: u, table: uplinkTables + i}
	for _, p := range []netip.Prefix{u.IPv4, u.IPv6} {
		if p.IsValid() {
			ln.addrs = append(ln.addrs, Addr{Prefix: p})
		}
	}
	ln.addrs = append(ln.addrs, u.Extra...)
	l.lines = append(l.lines, ln) // at once: tearDown removes half a line too
	if ln.isp, err = newMachine(l.t, "the ISP of "+u.Name, routerSysctls()); err != nil {
		return err
	}
	there := fmt.Sprintf("isp%d", i)
	core, internet, err := veth(ln.isp, ispCore, l.Internet, there, defaultMTU)
	if err != nil {
		return err
	}
	for _, prefix := range []netip.Prefix{
		netip.MustParsePrefix(fmt.Sprintf("198.19.%d.1/30", i)),
		netip.MustParsePrefix(fmt.Sprintf("2001:db8:ff00:%x::1/64", i)),
	} {
		near, far := prefix.Addr(), prefix.Addr().Next()
		line := u.IPv4
		if near.Is6() {
			line = u.IPv6
		}
		if err := errors.Join(
			ln.isp.setAddr(core, prefix, Addr{}),
			l.Internet.setAddr(internet, netip.PrefixFrom(far, prefix.Bits()), Addr{}),
			ln.isp.nl.RouteReplace(route(core, netip.Prefix{}, far, 0, 0)),
		); err != nil {
			return fmt.Errorf("between %s and the internet: %w", ln.isp.name, err)
		}
		if line.IsValid() {
			if err := l.Internet.nl.RouteReplace(route(internet, line.Masked(), near, 0, 0)); err != nil {
				return fmt.Errorf("the internet's route to %v: %w", line, err)
			}
		}
	}
	if err := acceptOnly(ln.isp.nl, ispLine, u.IPv4, u.IPv6); err != nil {
		return fmt.Errorf("%s: %w", ln.isp.name, err)
	}
	return l.plug(ln)
}

// removeLines takes the lines off the client machine. The rest of a line goes when its ISP's machine does.
func (l *Lab) removeLines() error {
	errs := []error{l.deleteClientLinks()}
	for _, ln := range l.lines {
		errs = append(errs, setRules(l.client.nl, false, ln.policy))
		if ln.isp != nil {
			errs = append(errs, ln.isp.close())
		}
	}
	return errors.Join(errs...)
}

// plug makes the link between client and ISP, and configures both ends.
func (l *Lab) plug(ln *line) (err error) {
	ln.index, ln.ispIndex, err = veth(l.client, ln.cfg.Name, ln.isp, ispLine, ln.cfg.MTU)
	if err != nil {
		return err
	}
	ln.clientUp, ln.ispUp = true, true
	err = writeSysctls([]sysctl{{"ipv4/conf/" + ln.cfg.Name + "/rp_filter", strconv.Itoa(ln.cfg.RPFilter)}})
	if err != nil {
		return err
	}
	return errors.Join(ln.configureISP(), l.configureClient(ln), l.setRate(ln))
}

func (l *Lab) unplug(ln *line) error {
	err := l.client.nl.LinkDel(linkAt(ln.index))
	ln.index, ln.ispIndex = 0, 0
	return err
}

// configureISP gives the ISP's end its addresses. It may be repeated.
func (ln *line) configureISP() error {
	for _, end := range []struct {
		line    netip.Prefix
		gateway netip.Addr
	}{{ln.cfg.IPv4, ln.cfg.Gateway4}, {ln.cfg.IPv6, ln.cfg.Gateway6}} {
		if !end.line.IsValid() {
			continue
		}
		err := ln.isp.setAddr(ln.ispIndex, netip.PrefixFrom(end.gateway, end.line.Bits()), Addr{})
		if err == nil && end.gateway.IsLinkLocalUnicast() {
			err = ln.isp.nl.RouteReplace(route(ln.ispIndex, end.line.Masked(), netip.Addr{}, 0, 0))
		}
		if err != nil {
			return fmt.Errorf("%s: gateway address %v: %w", ln.isp.name, end.gateway, err)
		}
	}
	return nil
}

// configureClient gives the client's end the addresses, routes and rules that it should have. It may be repeated.
func (l *Lab) configureClient(ln *line) error {
	for _, a := range ln.addrs {
		if err := l.setClientAddr(ln, a); err != nil {
			return fmt.Errorf("address %v: %w", a.Prefix, err)
		}
	}
	for _, gw := range []netip.Addr{ln.cfg.Gateway4, ln.cfg.Gateway6} {
		if err := l.setDefault(ln, gw, true); err != nil {
			return err
		}
	}
	return l.setPolicy(ln)
}

// setClientAddr adds or changes an address of the client's interface.
func (l *Lab) setClientAddr(ln *line, a Addr) error {
	conf := "ipv6/conf/" + ln.cfg.Name
	var settings []sysctl
	if a.Tentative {
		// Detection ends when the last of its probes, one a second, was not answered.
		settings = []sysctl{{conf + "/dad_transmits", "1000000"}, {conf + "/accept_dad", "1"}}
	}
	if a.Temporary {
		settings = []sysctl{{conf + "/dad_transmits", "1"}, {conf + "/accept_dad", "0"}, {conf + "/use_tempaddr", "2"}}
	}
	if err := writeSysctls(settings); err != nil {
		return err
	}
	if err := l.client.setAddr(ln.index, a.Prefix, a); err != nil || !a.Temporary {
		return err
	}
	return poll("the temporary address of "+a.Prefix.String(), func() (bool, error) {
		temporary, err := l.temporary(ln, a.Prefix)
		return temporary.IsValid(), err
	})
}

// setDefault adds the default route by gw to the main table, or deletes it. It adds none that is configured away, or
// that the kernel would refuse; ClientLink and Readdress call it again.
func (l *Lab) setDefault(ln *line, gw netip.Addr, on bool) error {
	configuredAway := gw.Is4() && ln.cfg.NoDefault4 || gw.Is6() && ln.cfg.NoDefault6
	if !gw.IsValid() || on && (configuredAway || !ln.reaches(gw)) {
		return nil
	}
	r := route(ln.index, netip.Prefix{}, gw, ln.cfg.Metric, 0)
	set := l.client.nl.RouteReplace
	if !on {
		set = l.client.nl.RouteDel
	}
	err := set(r)
	if !on && errors.Is(err, unix.ESRCH) {
		err = nil // the kernel has deleted it, with the last address or when the link went down
	}
	if err != nil {
		return fmt.Errorf("default route by %v: %w", gw, err)
	}
	return nil
}

// reaches reports whether the client can have a route by gw: its link is up, and it has an address that gw is next to.
func (ln *line) reaches(gw netip.Addr) bool {
	return ln.clientUp && slices.ContainsFunc(ln.addrs, func(a Addr) bool {
		return a.Prefix.Masked().Contains(gw) || a.Prefix.Addr().Is6() && gw.IsLinkLocalUnicast()
	})
}

// setPolicy brings the line's own routing table, and the rules that lead to it, in line with its addresses.
func (l *Lab) setPolicy(ln *line) error {
	if !ln.cfg.PolicyRoutes {
		return nil
	}
	for _, gw := range []netip.Addr{ln.cfg.Gateway4, ln.cfg.Gateway6} {
		if !ln.reaches(gw) {
			continue
		}
		if err := l.client.nl.RouteReplace(route(ln.index, netip.Prefix{}, gw, 0, ln.table)); err != nil {
			return fmt.Errorf("default route by %v in table %d: %w", gw, ln.table, err)
		}
	}
	if err := setRules(l.client.nl, false, ln.policy); err != nil {
		return err
	}
	ln.policy = nil
	for _, a := range ln.addrs {
		src := a.Prefix.Addr()
		r := newRule(prefUplink, family(src))
		r.Src = ipNet(netip.PrefixFrom(src, src.BitLen()))
		r.Table = ln.table
		if err := l.client.nl.RuleAdd(r); err != nil {
			return fmt.Errorf("rule for %v: %w", src, err)
		}
		ln.policy = append(ln.policy, r)
	}
	return nil
}

// poll waits until ok says so, for what the kernel does a moment after it was asked to.
func poll(what string, ok func() (bool, error)) error {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if done, err := ok(); done || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s did not come within 5s", what)
		}
	}
}
