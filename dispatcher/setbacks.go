package dispatcher

import (
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
}

// defeat is an attempt that did not win its race.
type defeat struct {
	destination netip.AddrPort
	place       int // among the race's attempts, by their beginnings
	class       uplink.Failure
}

// counts tells whether it speaks against the destination when another one won with the attempt of that place.
func (d defeat) counts(won int) bool {
	switch d.class {
	case uplink.TimedOut, uplink.HostUnreachable, uplink.Refused, uplink.Reset:
		return true
	case uplink.Canceled: // it was slow, if it began before
		return d.place < won
	}
	return false
}

// learn takes in a race that was won by the attempt of that place.
func (s *setbacks) learn(winner netip.AddrPort, won int, defeats []defeat) {
	if len(defeats) == 0 && s.count.Load() == 0 {
		return // as most
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, d := range defeats {
		if d.destination != winner && d.counts(won) {
			s.note(d.destination, now)
		}
	}
	delete(s.until, winner)
	s.count.Store(int64(len(s.until)))
}

// note needs the lock.
func (s *setbacks) note(destination netip.AddrPort, now time.Time) {
	if s.until == nil {
		s.until = make(map[netip.AddrPort]time.Time)
	}
	if len(s.until) >= maxSetbacks {
		for d, until := range s.until {
			if !now.Before(until) {
				delete(s.until, d)
			}
		}
	}
	if len(s.until) >= maxSetbacks {
		clear(s.until) // they will be learned anew
	}
	s.until[destination] = now.Add(setbackFor)
}

// order puts those that have had a setback behind the others, which both keep their order.
func (s *setbacks) order(destinations []netip.AddrPort) []netip.AddrPort {
	if len(destinations) < 2 || s.count.Load() == 0 {
		return destinations
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	var late []netip.AddrPort
	rest := make([]netip.AddrPort, 0, len(destinations))
	for _, d := range destinations {
		if until, known := s.until[d]; known && now.Before(until) {
			late = append(late, d)
		} else {
			rest = append(rest, d)
		}
	}
	return slices.Concat(rest, late)
}
