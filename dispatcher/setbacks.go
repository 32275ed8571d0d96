package dispatcher

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dispatch/dispatcher/uplink"
)

const (
	// setbackFor is for how long a destination comes behind its host's others.
	setbackFor = time.Minute
	// maxSetbacks bounds how many are kept.
	maxSetbacks = 1024
)

// setbacks are the destinations that lately failed, or were slow, where another one of the same host was connected to:
// the host's others are tried first for a while. Otherwise each connection to a name whose first address is dead would
// wait for that address, and would leave by another line than the one whose turn it was. (RFC 8305 section 4 has clients
// prefer the addresses that they have a good history with.) The zero value is ready to use.
type setbacks struct {
	count atomic.Int64 // of until
	mu    sync.Mutex
	until map[netip.AddrPort]time.Time
	tidy  time.Time // when those that are over were last removed
}

// defeat is an attempt that did not win its race.
type defeat struct {
	destination netip.AddrPort
	ordinal     int // among the race's attempts, by their beginnings
	class       uplink.Failure
}

// counts tells whether it speaks against the destination when another one won with the attempt of that ordinal.
func (d defeat) counts(won int) bool {
	switch d.class {
	case uplink.TimedOut, uplink.HostUnreachable, uplink.Refused, uplink.Reset:
		return true
	case uplink.Canceled: // it was slow, if it began before
		return d.ordinal < won
	}
	return false
}

// learn takes in a race that was won by the attempt of that ordinal.
func (s *setbacks) learn(winner netip.AddrPort, won int, defeats []defeat) {
	if len(defeats) == 0 && s.count.Load() == 0 {
		return // as most
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Sub(s.tidy) >= setbackFor {
		s.tidy = now
		maps.DeleteFunc(s.until, func(_ netip.AddrPort, until time.Time) bool { return !now.Before(until) })
	}
	for _, d := range defeats {
		if d.destination != winner && d.counts(won) {
			s.note(d.destination, now.Add(setbackFor))
		}
	}
	delete(s.until, winner)
	s.count.Store(int64(len(s.until)))
}

// note must hold mu.
func (s *setbacks) note(destination netip.AddrPort, until time.Time) {
	if s.until == nil || len(s.until) >= maxSetbacks {
		s.until = make(map[netip.AddrPort]time.Time) // those that are lost will be learned anew
	}
	s.until[destination] = until
}

// order puts those that have had a setback behind the others, which both keep their order.
func (s *setbacks) order(destinations []netip.AddrPort) []netip.AddrPort {
	if len(destinations) < 2 || s.count.Load() == 0 {
		return destinations
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	late := func(d netip.AddrPort) bool { return now.Before(s.until[d]) }
	if !slices.ContainsFunc(destinations, late) {
		return destinations
	}
	ordered := slices.DeleteFunc(slices.Clone(destinations), late)
	for _, d := range destinations {
		if late(d) {
			ordered = append(ordered, d)
		}
	}
	return ordered
}
