package netlab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The machines of the lab drop, refuse and accept packets by policy routing rules: they need no module and no tool,
// and work the same for both families. In the order in which the kernel asks them:
const (
	prefMute     = 10  // drop everything from the line, what is meant for the router itself included
	prefFate     = 20  // Block
	prefLocal    = 100 // deliver to the machine itself; the kernel's place for this is 0
	prefSilence  = 200 // forward nothing
	prefAccept   = 300 // forward what carries a source of the line ...
	prefSpoofed  = 301 // ... and nothing else from it
	prefUplink   = 1000
	uplinkTables = 1000 // uplink i's own routing table is number uplinkTables+i
)

// Block sets what the machine does with packets to dst: an ISP does it for its line alone, the internet for all.
// A connection that is refused (RST) needs no Fate: it is one to a server address on which nobody listens.
func (m *Machine) Block(dst netip.Addr, fate Fate) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.block(dst, fate); err != nil {
		m.t.Errorf("netlab: %s: setting what happens to packets to %v: %v", m.name, dst, err)
	}
}

func (m *Machine) block(dst netip.Addr, fate Fate) error {
	rule := func(f Fate) *netlink.Rule {
		r := newRule(prefFate, family(dst))
		r.Dst = ipNet(netip.PrefixFrom(dst, dst.BitLen()))
		r.Type = unix.RTN_BLACKHOLE
		if f == Unreachable {
			r.Type = unix.RTN_UNREACHABLE
		}
		return r
	}
	if old := m.fates[dst]; old != Deliver {
		if err := m.nl.RuleDel(rule(old)); err != nil {
			return err
		}
		delete(m.fates, dst)
	}
	if fate == Deliver {
		return nil
	}
	if err := m.nl.RuleAdd(rule(fate)); err != nil {
		return err
	}
	m.fates[dst] = fate
	return nil
}

// makeRoomBeforeLocal moves "deliver to the machine itself" from the first place, so that rules can come before it.
func makeRoomBeforeLocal(nl *netlink.Handle) error {
	for _, fam := range families() {
		moved := newRule(prefLocal, fam)
		moved.Table = unix.RT_TABLE_LOCAL
		if err := nl.RuleAdd(moved); err != nil {
			return fmt.Errorf("adding the rule for local delivery: %w", err)
		}
		first := newRule(0, fam)
		first.Table = unix.RT_TABLE_LOCAL
		if err := nl.RuleDel(first); err != nil {
			return fmt.Errorf("deleting the first rule for local delivery: %w", err)
		}
	}
	return nil
}

// acceptOnly makes a router forward, of what comes in by the interface, only what carries a source of one of the
// prefixes (BCP 38, RFC 2827). Two rules, because inverting a rule would invert its interface as well.
func acceptOnly(nl *netlink.Handle, iif string, prefixes ...netip.Prefix) error {
	for _, p := range prefixes {
		if !p.IsValid() {
			continue
		}
		accept := newRule(prefAccept, family(p.Addr()))
		accept.IifName = iif
		accept.Src = ipNet(p.Masked())
		accept.Table = unix.RT_TABLE_MAIN
		if err := nl.RuleAdd(accept); err != nil {
			return fmt.Errorf("accepting sources in %v: %w", p, err)
		}
	}
	return setRules(nl, true, dropFrom(prefSpoofed, iif))
}

// dropFrom are the rules that lose what comes in by one of the interfaces.
func dropFrom(pref int, iifs ...string) []*netlink.Rule {
	var rules []*netlink.Rule
	for _, fam := range families() {
		for _, iif := range iifs {
			r := newRule(pref, fam)
			r.IifName = iif
			r.Type = unix.RTN_BLACKHOLE
			rules = append(rules, r)
		}
	}
	return rules
}

func setRules(nl *netlink.Handle, on bool, rules []*netlink.Rule) error {
	set := nl.RuleDel
	if on {
		set = nl.RuleAdd
	}
	for _, r := range rules {
		if err := set(r); err != nil {
			return fmt.Errorf("rule %v: %w", r, err)
		}
	}
	return nil
}

func newRule(pref, fam int) *netlink.Rule {
	r := netlink.NewRule()
	r.Priority = pref
	r.Family = fam
	return r
}

func families() []int { return []int{unix.AF_INET, unix.AF_INET6} }

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
