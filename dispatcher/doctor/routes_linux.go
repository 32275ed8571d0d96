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
			way, ok := c.kernel.findGateway(e.leases, e.interfaces, l, f)
			if r != nil {
				way, ok = r.remember(l, f, way, ok)
			}
			if !ok {
				c.Missing = append(c.Missing, Missing{Uplink: l.Uplink, Family: f, Problem: "its router is not known; 'dispatch doctor' says what to do"})
				continue
			}
			policies = append(policies, newPolicy(e.interfaces, l.iface, l.source[f], way, slot))
		}
	}
	has.assign(policies)
	reconcile(c, has, policies)
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
		if _, ok := e.kernel.findGateway(e.leases, e.interfaces, l, f); ok {
			list = append(list, Missing{Uplink: l.Uplink, Family: f, Problem: "'start' would not use it: " + l.Reason +
				"; to make it a line, name it: dispatch doctor --fix " + quote(l.Uplink)})
		}
	}
	return list
}

// Routes are the policy routes of one running process. Two processes at a time do not touch each other's: each has a
// number of its own, which its tables and the priorities of its rules are made of, and which it holds as long as it
// lives. What a process has left behind that is no more, the next one to Apply removes, or RemoveLeft. The zero value is ready to use;
// its methods must not be called at the same time.
type Routes struct {
	claim *claim
	known map[known]gateway
}

// known is what the memory of a gateway holds good for.
type known struct {
	index  int
	source netip.Addr
}

// NewRoutes makes a Routes that has installed nothing yet.
func NewRoutes() *Routes { return new(Routes) }

// Apply installs the policy routes of the lines that specs name, and removes those of an earlier Apply that are no
// longer right. It is to be called again when links, addresses or routes have changed; when nothing has to be done it
// does nothing. A line that is down or whose router is not known is none of the errors, but among the Missing; a router
// that was known earlier on the same interface and address still is.
func (r *Routes) Apply(specs ...uplink.Spec) ([]Missing, error) {
	if len(specs) == 0 {
		return nil, errors.New("manage routes: no uplink was named")
	}
	if err := CanChangeRoutes(); err != nil {
		return nil, err
	}
	if r.claim == nil {
		if err := r.begin(); err != nil {
			return nil, err
		}
	}
	for range looks - 1 {
		missing, err := r.applyOnce(specs)
		if !groundMoved(err) {
			return missing, err
		}
	}
	return r.applyOnce(specs)
}

// looks is how often Apply looks again when links or addresses change between its look at them and its change. Each look
// takes a few milliseconds; a link that changes faster than that gets its routes when it has come to rest.
const looks = 4

// groundMoved tells the errors of a route over an interface or by an address that is no longer there, or is down.
func groundMoved(err error) bool {
	return errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETDOWN) ||
		errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL)
}

func (r *Routes) applyOnce(specs []uplink.Spec) (_ []Missing, err error) {
	mine := map[int]bool{r.claim.slot: true}
	c, err := plan(specs, r, func(c *Change, has installed, policies []policy) {
		c.reconcile(has, policies, inSlots(mine), inTables(mine))
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return c.Missing, c.Make()
}

// begin takes a number that no living process has, and clears away what the dead have left.
func (r *Routes) begin() error {
	own, err := claimFree()
	if err != nil {
		return err
	}
	if err = remove(map[int]bool{own.slot: true}); err == nil {
		_, err = RemoveLeft()
	}
	if err != nil {
		return errors.Join(err, own.release())
	}
	r.claim, r.known = own, make(map[known]gateway)
	return nil
}

// RemoveLeft removes what Routes of processes that are no more have left behind, and tells whether there was any. It takes
// the right to change routes. What a fix has installed stays. It holds no number that a process may want which starts at
// the same time, save those it clears.
func RemoveLeft() (found bool, err error) {
	has, err := listInstalled()
	if err != nil {
		return false, err
	}
	dead, err := claimDead(has)
	if err != nil || len(dead) == 0 {
		return false, err
	}
	doomed := make(map[int]bool)
	for _, c := range dead {
		doomed[c.slot] = true
	}
	return true, errors.Join(remove(doomed), releaseAll(dead))
}

func listInstalled() (installed, error) {
	k, err := openKernel()
	if err != nil {
		return installed{}, err
	}
	defer k.close()
	return k.installed()
}

// remove takes away what is in the slots.
func remove(doomed map[int]bool) (err error) {
	k, err := openKernel()
	if err != nil {
		return err
	}
	c := &Change{kernel: k}
	defer func() { err = errors.Join(err, c.Close()) }()
	has, err := k.installed()
	if err != nil {
		return err
	}
	c.reconcile(has, nil, inSlots(doomed), inTables(doomed))
	return c.Make()
}

// remember replaces a gateway that is not known, or only known from our own routes, by what was known before.
func (r *Routes) remember(l *line, f uplink.Family, way gateway, ok bool) (gateway, bool) {
	key := known{l.iface.Index, l.source[f]}
	if ok {
		r.known[key] = way
		return way, true
	}
	way, ok = r.known[key]
	return way, ok
}

// Remove removes what Apply has installed. Apply may be called again afterwards.
func (r *Routes) Remove() error {
	if r.claim == nil {
		return nil
	}
	err := remove(map[int]bool{r.claim.slot: true})
	err = errors.Join(err, r.claim.release())
	r.claim = nil
	return err
}
