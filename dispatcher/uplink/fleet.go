package uplink

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dispatch/dispatcher/machine"
)

// ErrNoMatch is what an uplink's error wraps when the machine has no such interface or address.
var ErrNoMatch = errors.New("matches nothing on this machine")

// Uplink is one line out of the machine that the user chose. It is followed through address changes: what it
// stands for at the moment is a Binding of the Fleet's current View. Safe for concurrent use.
type Uplink struct {
	id    ID
	name  string
	fleet *Fleet
	times connectTimes
	held  atomic.Int64

	connecting atomic.Int64
	ended      atomic.Bool
}

// ID is its slot in its fleet.
func (u *Uplink) ID() ID { return u.id }

// Name is the interface's name or the fixed address: what logs and listings call the uplink.
func (u *Uplink) Name() string { return u.name }

// Hold says that one session more is carried by the uplink. Until as many have been released, its ID is given to no other.
func (u *Uplink) Hold() { u.held.Add(1) }

// Release says that such a session has ended.
func (u *Uplink) Release() { u.held.Add(-1) }

// Sessions is how many hold the uplink.
func (u *Uplink) Sessions() int { return int(u.held.Load()) }

// End says that no session is to go on through the uplink: for one that is removed from its fleet. It is over when the
// uplink comes back.
func (u *Uplink) End() { u.ended.Store(true) }

// Ended tells whether End was called.
func (u *Uplink) Ended() bool { return u.ended.Load() }

// Connecting is how many attempts to connect by TCP are under way.
func (u *Uplink) Connecting() int { return int(u.connecting.Load()) }

// OvertakeDelay is the time after which an attempt through this uplink counts as slow, so that the next one
// starts beside it: 250 ms to 2 s, from the connect times seen on this uplink (RFC 8305 section 5).
func (u *Uplink) OvertakeDelay() time.Duration { return u.times.overtakeDelay() }

// ObserveConnect takes in the connect time of an attempt: of a successful one, or of one that was overtaken
// the time it had been going by then.
func (u *Uplink) ObserveConnect(took time.Duration) { u.times.observe(took) }

// Fleet is the uplinks of one gateway. They can be changed while it runs. Safe for concurrent use.
type Fleet struct {
	table *machine.Table

	mu      sync.Mutex // held while a View is made, or the members change
	slots   [MaxUplinks]*Uplink
	removed []*Uplink // those that keep their slots though they are no members; the longest removed first
	members atomic.Pointer[[]member]
	view    atomic.Pointer[View]
	errands atomic.Uint64 // of ServerDialer
}

// member is an uplink that new connections may use. A list of them is never changed.
type member struct {
	uplink *Uplink
	spec   Spec
}

// Change is what Fleet.Apply did.
type Change struct {
	Added, Removed, Reweighed []*Uplink
	// Cut had been removed before and still carried sessions when an added uplink needed a slot. Whoever applies the
	// change ends those.
	Cut []*Uplink
}

// NewFleet makes a fleet of the uplinks that specs name: see Apply.
func NewFleet(table *machine.Table, specs []Spec) (*Fleet, error) {
	f := &Fleet{table: table}
	f.members.Store(new([]member))
	_, err := f.Apply(specs)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Apply makes the fleet consist of what specs name, in that order. An uplink that it has already stays the same one,
// whatever its weight, with all that is known of it; one that is not named any more is removed: nothing new is dialled
// through it, and what its sessions do is the caller's affair. An added one must name something that the machine has
// now, be it down or without an address: the error for one that does not lists what exists. After an error nothing has
// changed.
func (f *Fleet) Apply(specs []Spec) (Change, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case len(specs) == 0:
		return Change{}, errors.New("no uplink: give at least one interface or local address; see 'dispatch list'")
	case len(specs) > MaxUplinks:
		return Change{}, fmt.Errorf("%d uplinks are too many; give at most %d", len(specs), MaxUplinks)
	}
	interfaces, err := f.table.Interfaces()
	if err != nil {
		return Change{}, err
	}
	before := make(map[string]member)
	for _, m := range *f.members.Load() {
		before[m.uplink.name] = m
	}
	var change Change
	next := make([]member, 0, len(specs))
	for _, spec := range specs {
		m, known := before[spec.String()]
		delete(before, spec.String())
		switch {
		case slices.ContainsFunc(next, func(m member) bool { return m.uplink.name == spec.String() }):
			return Change{}, twiceError(spec)
		case !known && find(interfaces, spec) == nil:
			return Change{}, fmt.Errorf("uplink %q %w; it has %s", spec, ErrNoMatch, describe(interfaces))
		case !known:
			if m.uplink = f.leaving(spec.String()); m.uplink != nil {
				m.uplink.ended.Store(false)
			} else {
				m.uplink = &Uplink{name: spec.String(), fleet: f}
			}
			change.Added = append(change.Added, m.uplink)
		case m.spec.Weight != spec.Weight:
			change.Reweighed = append(change.Reweighed, m.uplink)
		}
		next = append(next, member{m.uplink, spec})
	}
	for _, m := range *f.members.Load() {
		if _, gone := before[m.uplink.name]; gone {
			change.Removed = append(change.Removed, m.uplink)
		}
	}
	change.Cut = f.settle(change)
	f.members.Store(&next)
	return change, nil
}

// leaving returns the removed uplink of that name whose sessions have not ended, nil if there is none. It must hold mu.
func (f *Fleet) leaving(name string) *Uplink {
	for _, u := range f.removed {
		if u.name == name {
			return u
		}
	}
	return nil
}

// settle gives each added uplink a slot: a free one, or that of one without sessions, or of the one that was removed
// longest ago, which it returns. It must hold mu.
func (f *Fleet) settle(change Change) (cut []*Uplink) {
	f.removed = slices.DeleteFunc(f.removed, func(u *Uplink) bool {
		idle := u.Sessions() <= 0 && !slices.Contains(change.Added, u)
		if idle {
			f.slots[u.id] = nil
		}
		return idle
	})
	f.removed = append(f.removed, change.Removed...)
	for _, u := range change.Added {
		if at := slices.Index(f.removed, u); at >= 0 { // it comes back
			f.removed = slices.Delete(f.removed, at, at+1)
			continue
		}
		at := slices.Index(f.slots[:], nil)
		if at < 0 {
			// Of at most MaxUplinks members not all had a slot, so somebody without membership has one.
			idle := func(u *Uplink) bool { return u.Sessions() <= 0 }
			oldest := max(0, slices.IndexFunc(f.removed, idle))
			if f.removed[oldest].Sessions() > 0 {
				cut = append(cut, f.removed[oldest])
			}
			at = int(f.removed[oldest].id)
			f.removed = slices.Delete(f.removed, oldest, oldest+1)
		}
		u.id = ID(at)
		f.slots[at] = u
	}
	return cut
}

// Specs is what the uplinks were asked for, with their present weights, in the user's order.
func (f *Fleet) Specs() []Spec {
	members := *f.members.Load()
	specs := make([]Spec, len(members))
	for n, m := range members {
		specs[n] = m.spec
	}
	return specs
}

// Uplinks returns the present uplinks in the user's order. The slice is the caller's.
func (f *Fleet) Uplinks() []*Uplink {
	members := *f.members.Load()
	uplinks := make([]*Uplink, len(members))
	for n, m := range members {
		uplinks[n] = m.uplink
	}
	return uplinks
}

// Invalidate makes the next View read the interfaces again: for when an attempt failed in a way that says the
// last reading is out of date.
func (f *Fleet) Invalidate() { f.table.Invalidate() }

// View returns what the uplinks stand for now.
func (f *Fleet) View() (*View, error) {
	r, err := f.table.Read()
	if err != nil {
		return nil, err
	}
	return f.viewOf(r), nil
}

func (f *Fleet) viewOf(r *machine.Reading) *View {
	if v := f.view.Load(); v != nil && v.reading == r && v.members == f.members.Load() {
		return v
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	members, last := f.members.Load(), f.view.Load()
	if last != nil && last.reading == r && last.members == members {
		return last
	}
	v := newView(r, members)
	switch {
	case last == nil:
		v.Generation = 1
	case slices.Equal(v.Bindings, last.Bindings) && !v.lacks(last):
		v.Generation = last.Generation
	default:
		v.Generation = last.Generation + 1
	}
	f.view.Store(v)
	return v
}

// find returns the interface that spec stands for, nil when there is none.
func find(interfaces []machine.Interface, spec Spec) *machine.Interface {
	for n := range interfaces {
		i := &interfaces[n]
		if !spec.Addr.IsValid() {
			if i.Name == spec.Name || runtime.GOOS == "windows" && strings.EqualFold(i.Name, spec.Name) {
				return i
			}
			continue
		}
		if _, ok := i.Address(spec.Addr); ok {
			return i
		}
	}
	return nil
}

// describe lists interfaces and addresses for an error text.
func describe(interfaces []machine.Interface) string {
	if len(interfaces) == 0 {
		return "no network interface"
	}
	parts := make([]string, 0, len(interfaces))
	for _, i := range interfaces {
		addrs := make([]string, 0, len(i.Addresses))
		for _, a := range i.Addresses {
			if !a.Prefix.Addr().IsLinkLocalUnicast() {
				addrs = append(addrs, a.Prefix.Addr().String())
			}
		}
		part := i.Name
		if len(addrs) > 0 {
			part += " (" + strings.Join(addrs, ", ") + ")"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}
