package policyroutes

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
)

// Allowed returns nil if this process may change routes, else an error that says what it takes.
func Allowed() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("ask for this process's capabilities: %w", err)
	}
	if data[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		return errors.New("to change routes takes the capability CAP_NET_ADMIN: run it as root, or let a service manager grant it")
	}
	return nil
}

// PlanFix plans the policy routes of the lines that specs name. They stay until PlanUnfix's change, or a restart of the
// machine. What earlier fixes have installed for other addresses is kept.
func PlanFix(specs []uplink.Spec) (*Change, error) {
	return plan(specs, fixed, nil, func(policies []policy) (func(netlink.Rule) bool, func(netlink.Route) bool) {
		// An address has one policy; the one it had before, perhaps by another interface, is replaced.
		replaced := make(map[netip.Addr]bool)
		for _, p := range policies {
			replaced[p.source] = true
		}
		return func(r netlink.Rule) bool { return rulesOf(fixed)(r) && replaced[sourceOf(r)] },
			func(netlink.Route) bool { return false }
	})
}

// sourceOf is the address that a rule is for; the zero Addr where it is for all.
func sourceOf(r netlink.Rule) netip.Addr {
	if r.Src == nil {
		return netip.Addr{}
	}
	addr, _ := netip.AddrFromSlice(r.Src.IP)
	return addr.Unmap()
}

// PlanUnfix plans the removal of everything this program has installed, now or in an earlier run, save what a running
// process manages.
func PlanUnfix() (*Change, error) {
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	c := &Change{kernel: k}
	has, err := k.installed()
	if err == nil && has.ownedBy(managed) {
		c.unowned, err = isUnowned()
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c.reconcile(has, nil, func(r netlink.Rule) bool { return c.unowned || rulesOf(fixed)(r) },
		func(r netlink.Route) bool { return c.unowned || routesOf(fixed)(r) })
	return c, nil
}

// isUnowned tells whether no living process manages routes.
func isUnowned() (bool, error) {
	own, err := takeLock()
	if errors.Is(err, errHeld) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, own.release()
}

// plan finds the policies of the lines; doomed says what of that which is there goes.
func plan(specs []uplink.Spec, o owner, known memory, doomed func([]policy) (func(netlink.Rule) bool, func(netlink.Route) bool)) (*Change, error) {
	table := new(machine.Table)
	interfaces, err := table.Interfaces()
	if err != nil {
		return nil, err
	}
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	c := &Change{kernel: k}
	has, err := k.installed()
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	var policies []policy
	for _, s := range specs {
		i, sources, err := lineOf(table, interfaces, s)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		if i == nil || !i.Up || len(sources) == 0 {
			c.Missing = append(c.Missing, Missing{Uplink: s.String(), Problem: "it is down, or has no usable address"})
			continue
		}
		for _, source := range sources {
			by, ok := k.findRouter(interfaces, i, source)
			if by, ok = known.recall(i.Index, source, by, ok); !ok {
				c.Missing = append(c.Missing, Missing{
					Uplink: s.String(), Family: machine.FamilyOf(source), Problem: "its router is not known; 'dispatch doctor " + s.String() + "' says what to do",
				})
				continue
			}
			p := newPolicy(interfaces, i, source, by, o)
			p.uplink = s.String()
			policies = append(policies, p)
		}
	}
	rules, routes := doomed(policies)
	has.assign(policies, rules)
	c.reconcile(has, policies, rules, routes)
	c.policies = len(policies)
	return c, nil
}

// lineOf returns the interface that a line stands for now, and the addresses that its connections leave from; nil where the
// machine has no such interface or address.
func lineOf(table *machine.Table, interfaces []machine.Interface, s uplink.Spec) (i *machine.Interface, sources []netip.Addr, err error) {
	fleet, err := uplink.NewFleet(table, []uplink.Spec{s})
	if errors.Is(err, uplink.ErrNoMatch) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	view, err := fleet.View()
	if err != nil {
		return nil, nil, err
	}
	now := &view.Bindings[0]
	for n := range interfaces {
		if interfaces[n].Index == now.Index {
			i = &interfaces[n]
		}
	}
	for _, f := range families {
		if source := now.Source(f); source.IsValid() {
			sources = append(sources, source)
		}
	}
	return i, sources, nil
}

// Commands are what installs the policy routes of an interface's address by hand, as the administrator's. Routes may be made
// again and again; rules that are there would be refused and are left out.
func Commands(interfaces []machine.Interface, i *machine.Interface, source netip.Addr, by Router) ([]string, error) {
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	c := &Change{kernel: k}
	has, err := k.installed()
	if err == nil {
		policies := []policy{newPolicy(interfaces, i, source, by, fixed)}
		has.assign(policies, func(netlink.Rule) bool { return false })
		c.install(has, policies[0])
	}
	return c.Commands, errors.Join(err, c.Close())
}

// TableOf says whose a routing table is: of 'dispatch doctor --fix', say; empty where it is none of ours.
func TableOf(table int) string {
	switch o, ours := ownerOfTable(table); {
	case ours && o == fixed:
		return "'dispatch doctor --fix'"
	case ours:
		return "a running 'dispatch start --manage-routes'"
	}
	return ""
}

// Rule is a routing rule of somebody else's.
type Rule struct {
	// Text is the rule as ip(8) reads it, without the action of one that leads to no table, and Delete the command that
	// removes it.
	Text, Delete string
	// First: it is asked before ours. Leads: to a table; else it discards, or skips other rules.
	First, Leads bool
}

// ForeignRules lists the routing rules that are neither the kernel's own nor ours, in the order in which they are asked, save
// those that are for other sources or devices, for what is forwarded, or for what is marked.
func ForeignRules(device string, source netip.Addr) ([]Rule, error) {
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	defer k.close()
	f := machine.FamilyOf(source)
	rules, err := k.rules(f)
	if err != nil {
		return nil, err
	}
	var list []Rule
	for _, r := range rules {
		elsewhere := r.Src != nil && !r.Src.Contains(source.AsSlice()) || r.OifName != "" && r.OifName != device ||
			r.IifName != "" && r.IifName != "lo" || r.Mark != 0
		if r.Protocol == unix.RTPROT_KERNEL || r.Protocol == protocol || elsewhere && !r.Invert {
			continue
		}
		list = append(list, Rule{
			Text: ruleWords(r), Delete: ipCommand(f, "rule del "+ruleWords(r)),
			First: r.Priority < firstPriority+perOwner, Leads: r.Table != 0,
		})
	}
	return list, nil
}
