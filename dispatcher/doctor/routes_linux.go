package doctor

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dispatch/dispatcher/uplink"
)

// CanChangeRoutes returns nil if this process may change routes, else an error that says what it takes.
func CanChangeRoutes() error {
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

// PlanFix plans the policy routes of the lines that specs name, or of those `start` would choose. They stay until
// PlanUnfix's change, or a restart of the machine. What earlier fixes have installed for other addresses is kept.
func PlanFix(specs []uplink.Spec) (*Change, error) {
	return plan(specs, nil, func(c *Change, has installed, policies []policy) {
		// An address has one policy; the one it had before, perhaps by another interface, is replaced. So is a table's
		// former route, where it would not lead another address elsewhere.
		replaced := make(map[netip.Addr]bool)
		for _, p := range policies {
			replaced[p.source] = true
		}
		c.reconcile(has, policies, func(r netlink.Rule) bool {
			slot, _ := slotOf(r)
			return slot == 0 && replaced[sourceOf(r)]
		}, func(netlink.Route) bool { return false })
	})
}

func sourceOf(r netlink.Rule) netip.Addr {
	if r.Src == nil {
		return netip.Addr{}
	}
	addr, _ := netip.AddrFromSlice(r.Src.IP)
	return addr.Unmap()
}

// PlanUnfix plans the removal of everything this program has installed, now or in an earlier run, save what running
// processes manage.
func PlanUnfix() (*Change, error) {
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	c := &Change{kernel: k}
	has, err := k.installed()
	if err == nil {
		c.claims, err = claimDead(has)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	doomed := map[int]bool{0: true}
	for _, dead := range c.claims {
		doomed[dead.slot] = true
	}
	c.reconcile(has, nil, inSlots(doomed), inTables(doomed))
	return c, nil
}

func inSlots(doomed map[int]bool) func(netlink.Rule) bool {
	return func(r netlink.Rule) bool {
		slot, _ := slotOf(r)
		return doomed[slot]
	}
}

func inTables(doomed map[int]bool) func(netlink.Route) bool {
	return func(r netlink.Route) bool {
		slot, _ := slotOfTable(r.Table)
		return doomed[slot]
	}
}

// plan finds the policies of the lines and has reconcile make the steps of them.
func plan(specs []uplink.Spec, r *Routes, reconcile func(*Change, installed, []policy)) (*Change, error) {
	e, err := newExamination(specs, Options{})
	if err != nil {
		return nil, err
	}
	c := &Change{kernel: e.kernel}
	has, err := c.kernel.installed()
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	slot := 0
	if r != nil {
		slot = r.claim.slot
	}
	var policies []policy
	for _, l := range e.lines {
		if !l.Chosen {
			c.Missing = append(c.Missing, e.passedOver(l)...)
			continue
		}
		if l.iface == nil || !l.iface.Up || len(l.source) == 0 {
			c.Missing = append(c.Missing, Missing{Uplink: l.Uplink, Problem: "it is down, or has no usable address"})
			continue
		}
		for _, f := range families {
			if !l.source[f].IsValid() {
				continue
			}
			way, ok := c.kernel.findGateway(e.interfaces, l, f)
			if r != nil {
				way, ok = r.remember(l, f, way, ok)
			}
			if !ok {
				c.Missing = append(c.Missing, Missing{Uplink: l.Uplink, Family: f, Problem: "its router is not known; 'dispatch doctor' says what to do"})
				continue
			}
			p := newPolicy(e.interfaces, l.iface, l.source[f], way, slot)
			p.uplink = l.Uplink
			policies = append(policies, p)
		}
	}
	has.assign(policies)
	reconcile(c, has, policies)
	c.policies = len(policies)
	return c, nil
}

// passedOver tells of the families in which a line that `start` would not use could be one, if its user named it.
func (e *examination) passedOver(l *line) (list []Missing) {
	for _, f := range families {
		if !l.source[f].IsValid() {
			continue
		}
		if _, routed := l.iface.DefaultRoute(f); routed {
			continue
		}
		if _, ok := e.kernel.findGateway(e.interfaces, l, f); ok {
			list = append(list, Missing{Uplink: l.Uplink, Family: f, Problem: "'start' would not use it: " + l.Reason +
				"; to make it a line, name it: dispatch doctor --fix " + quote(l.Uplink)})
		}
	}
	return list
}
