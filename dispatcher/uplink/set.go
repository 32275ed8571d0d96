package uplink

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"dispatch/dispatcher/machine"
)

// MaxUplinks bounds a Set, so that a set of lines fits a machine word.
const MaxUplinks = 64

// ErrNoMatch is what an uplink's error wraps when the machine has no such interface or address.
var ErrNoMatch = errors.New("matches nothing on this machine")

// Uplink is one line out of the machine that the user chose. It is followed through address changes: what it
// stands for at the moment is a Line of the Set's current View. Safe for concurrent use.
type Uplink struct {
	// Spec is what the user asked for; never changed.
	Spec Spec
	// Number is its place in its Set, counted from 0.
	Number int

	set   *Set
	times connectTimes
}

// Name is the interface's name or the fixed address: what logs and listings call the uplink.
func (u *Uplink) Name() string { return u.Spec.String() }

// Weight is its share against the other uplinks' weights.
func (u *Uplink) Weight() int { return u.Spec.Weight }

// OvertakeDelay is the time after which an attempt through this uplink counts as slow, so that the next one
// starts beside it: 250 ms to 2 s, from the connect times seen on this uplink (RFC 8305 section 5).
func (u *Uplink) OvertakeDelay() time.Duration { return u.times.overtakeDelay() }

// ObserveConnect takes in the connect time of an attempt: of a successful one, or of one that was overtaken
// the time it had been going by then.
func (u *Uplink) ObserveConnect(took time.Duration) { u.times.observe(took) }

// Set is the uplinks of one gateway, in the order the user gave.
type Set struct {
	table   *machine.Table
	uplinks []*Uplink
	view    atomic.Pointer[View]
}

// NewSet makes the uplinks for specs. Each must name something the machine has now, be it down or without an
// address: the error for one that does not lists what exists.
func NewSet(table *machine.Table, specs []Spec) (*Set, error) {
	if len(specs) == 0 {
		return nil, errors.New("no uplink: give at least one interface or local address; see 'dispatch list'")
	}
	if len(specs) > MaxUplinks {
		return nil, fmt.Errorf("%d uplinks are too many; give at most %d", len(specs), MaxUplinks)
	}
	interfaces, err := table.Interfaces()
	if err != nil {
		return nil, err
	}
	s := &Set{table: table}
	for n, spec := range specs {
		if find(interfaces, spec) == nil {
			return nil, fmt.Errorf("uplink %q %w; it has %s", spec, ErrNoMatch, describe(interfaces))
		}
		s.uplinks = append(s.uplinks, &Uplink{Spec: spec, Number: n, set: s})
	}
	return s, nil
}

// Uplinks returns the uplinks in the user's order; the slice is shared and must not be changed.
func (s *Set) Uplinks() []*Uplink { return s.uplinks }

// Invalidate makes the next View read the interfaces again: for when an attempt failed in a way that says the
// last reading is out of date.
func (s *Set) Invalidate() { s.table.Invalidate() }

// View returns what the uplinks stand for now.
func (s *Set) View() (*View, error) {
	r, err := s.table.Read()
	if err != nil {
		return nil, err
	}
	return s.viewOf(r), nil
}

func (s *Set) viewOf(r *machine.Reading) *View {
	if v := s.view.Load(); v != nil && v.reading == r {
		return v
	}
	v := newView(r, s.uplinks)
	s.view.Store(v)
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
