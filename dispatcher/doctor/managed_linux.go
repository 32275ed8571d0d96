package doctor

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
)

// Routes are the policy routes of one running process. Two processes at a time do not touch each other's: each has a
// number of its own, which its tables and the priorities of its rules are made of, and which it holds as long as it
// lives. What a process has left behind that is no more, the next one to Apply removes, or RemoveLeft. The zero value is
// ready to use; its methods must not be called at the same time.
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
// does nothing. A line that is down, whose router is not known or whose route the kernel refuses is none of the errors,
// but among the Missing, unless the kernel refuses them all; a router that was known earlier on the same interface and
// address still is.
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
	mine := map[int]bool{r.claim.slot: true}
	c, err := plan(specs, r, func(c *Change, has installed, policies []policy) {
		c.reconcile(has, policies, inSlots(mine), inTables(mine))
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
func (r *Routes) remember(l *line, f machine.Family, way gateway, ok bool) (gateway, bool) {
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
