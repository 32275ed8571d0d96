package policyroutes

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/vishvananda/netlink"

	"dispatch/dispatcher/uplink"
)

// Routes are the policy routes of one running process, which is the only one in its network namespace that manages any.
// What a process has left behind that is no more, the next one to Apply removes, or RemoveLeft. The zero value is ready to
// use; its methods must not be called at the same time.
type Routes struct {
	own   *lock
	known memory
}

// memory is the routers that were found.
type memory map[where]Router

// where is what a memory holds good for.
type where struct {
	index  int
	source netip.Addr
}

// recall replaces a router that is not known any more, as when a VPN has taken the default routes away, by what was known
// before. A nil memory forgets.
func (m memory) recall(index int, source netip.Addr, by Router, ok bool) (Router, bool) {
	key := where{index, source}
	if !ok {
		by, ok = m[key]
		return by, ok
	}
	if m != nil {
		m[key] = by
	}
	return by, true
}

// New makes a Routes that has installed nothing yet.
func New() *Routes { return new(Routes) }

// Apply installs the policy routes of the lines that specs name, and removes those of an earlier Apply that are no
// longer right. It is to be called again when links, addresses or routes have changed; when nothing has to be done it
// does nothing. A line that is down, whose router is not known or whose route the kernel refuses is none of the errors,
// but among the Missing, unless the kernel refuses them all; a router that was known earlier on the same interface and
// address still is. It is an error that another process manages routes.
func (r *Routes) Apply(specs ...uplink.Spec) ([]Missing, error) {
	if len(specs) == 0 {
		return nil, errors.New("manage routes: no uplink was named")
	}
	if err := Allowed(); err != nil {
		return nil, err
	}
	if r.own == nil {
		if err := r.begin(); err != nil {
			return nil, err
		}
	}
	for n := 1; ; n++ {
		missing, moved, err := r.applyOnce(specs)
		if !moved || n == looks {
			return missing, err
		}
	}
}

// looks is how often Apply looks again when links or addresses change between its look at them and its change. Each look
// takes a few milliseconds; a link that changes faster than that gets its routes when it has come to rest.
const looks = 4

// groundMoved tells the errors of a route over an interface or by an address that is no longer there, or is down.
func groundMoved(err error) bool {
	return errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETDOWN) ||
		errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL)
}

// applyOnce also tells whether it is worth another look.
func (r *Routes) applyOnce(specs []uplink.Spec) (missing []Missing, moved bool, err error) {
	c, err := plan(specs, managed, r.known, func([]policy) (func(netlink.Rule) bool, func(netlink.Route) bool) {
		return rulesOf(managed), routesOf(managed)
	})
	if err != nil {
		return nil, groundMoved(err), err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	err = c.Make()
	failed, ok := errors.AsType[policyErrors](err)
	if !ok || len(failed) == c.policies {
		return c.Missing, groundMoved(err), err
	}
	missing = c.Missing
	for _, f := range failed {
		missing = append(missing, Missing{Uplink: f.of.uplink, Family: f.of.family(), Problem: "the kernel refuses it: " + f.Error()})
	}
	return missing, groundMoved(err), nil
}

// begin takes the lock, and clears away what a dead process has left.
func (r *Routes) begin() error {
	own, err := waitForLock()
	if err != nil {
		return err
	}
	if err := removeManaged(); err != nil {
		return errors.Join(err, own.release())
	}
	r.own, r.known = own, make(memory)
	return nil
}

// RemoveLeft removes what Routes of a process that is no more have left behind, and tells whether there was any. It takes
// the right to change routes. What a fix has installed stays.
func RemoveLeft() (found bool, err error) {
	has, err := listInstalled()
	if err != nil || !has.ownedBy(managed) {
		return false, err
	}
	own, err := takeLock()
	if errors.Is(err, errHeld) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, errors.Join(removeManaged(), own.release())
}

func listInstalled() (installed, error) {
	k, err := openKernel()
	if err != nil {
		return installed{}, err
	}
	defer k.close()
	return k.installed()
}

// removeManaged takes away what a process has installed. The lock is to be held.
func removeManaged() (err error) {
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
	c.reconcile(has, nil, rulesOf(managed), routesOf(managed))
	return c.Make()
}

// Remove removes what Apply has installed. Apply may be called again afterwards.
func (r *Routes) Remove() error {
	if r.own == nil {
		return nil
	}
	err := errors.Join(removeManaged(), r.own.release())
	r.own = nil
	return err
}
