package health

import (
	"net/netip"
	"slices"
	"time"
)

// recent keeps the destinations that a line connected to last.
type recent struct {
	entries [8]reached
	next    int
}

type reached struct {
	destination netip.AddrPort
	at          time.Time // the last time
}

func (r *recent) add(d netip.AddrPort, now time.Time) {
	for n := range r.entries {
		if r.entries[n].destination == d {
			r.entries[n].at = now
			return
		}
	}
	r.entries[r.next] = reached{d, now}
	r.next = (r.next + 1) % len(r.entries)
}

// since tells whether a destination was reached since then.
func (r *recent) since(d netip.AddrPort, then time.Time) bool {
	for n := range r.entries {
		if e := &r.entries[n]; e.destination == d {
			return !e.at.Before(then)
		}
	}
	return false
}

// proven returns what a line is checked with: what other lines reached last, the latest first. What lies on another
// line's own network is nothing to try this one with. m.mu must be held.
func (m *Monitor) proven(l *line) []netip.AddrPort {
	f := indexOf(l.Family)
	var found []reached
	for _, o := range m.lines[f] {
		if o != l {
			found = append(found, o.recent.entries[:]...)
		}
	}
	slices.SortFunc(found, func(a, b reached) int { return b.at.Compare(a.at) })
	var proven []netip.AddrPort
	for _, r := range found {
		if len(proven) == maxDestinations || !r.destination.IsValid() {
			break
		}
		if !m.foreign(r.destination.Addr(), l) && !slices.Contains(proven, r.destination) {
			proven = append(proven, r.destination)
		}
	}
	return proven
}

// foreign tells whether an address lies on another line's own network. m.mu must be held.
func (m *Monitor) foreign(a netip.Addr, l *line) bool {
	if m.view == nil {
		return false
	}
	neighbours := m.view.Place(a).Lines
	return neighbours != 0 && !neighbours.Has(l.Uplink.ID())
}
