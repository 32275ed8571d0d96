package dispatcher

import (
	"net/netip"
	"slices"

	"dispatch/dispatcher/uplink"
)

// pair is one attempt that can be made.
type pair struct {
	uplink      *uplink.Uplink // nil: direct
	destination netip.AddrPort
	ordinal     int // among the race's attempts, by their beginnings, counted from 1; 0: none yet
}

// pairs deals out the pairs of a route, whose lanes it takes over.
type pairs struct {
	lanes    []lane
	dealtAll bool

	// Attempts by destination, ruledOut for one that is not to be tried again. The last one dealt is counted when
	// the next is asked for, so that a request that needs but one, as most do, needs no map.
	seen map[netip.AddrPort]int
	last netip.AddrPort
}

const ruledOut = -1

// next deals the pair whose line has been tried least, among those the one whose destination has been tried
// least, in the route's order.
func (p *pairs) next() (pair, bool) {
	if p.last.IsValid() && p.seen[p.last] != ruledOut {
		p.set(p.last, p.seen[p.last]+1)
	}
	lane, at := -1, 0
	for n := range p.lanes {
		l := &p.lanes[n]
		if lane >= 0 && l.tried >= p.lanes[lane].tried {
			continue
		}
		for m, dst := range l.destinations {
			if l.dealt&(1<<m) != 0 || p.seen[dst] == ruledOut {
				continue
			}
			if lane != n || p.seen[dst] < p.seen[l.destinations[at]] {
				lane, at = n, m
			}
		}
	}
	if lane < 0 {
		p.dealtAll = true
		return pair{}, false
	}
	l := &p.lanes[lane]
	l.tried++
	l.dealt |= 1 << at
	p.last = l.destinations[at]
	return pair{uplink: l.uplink, destination: p.last}, true
}

// add takes over those of the lanes whose lines there are none of yet, and tells whether there are any.
func (p *pairs) add(lanes []lane) bool {
	before := len(p.lanes)
	for _, l := range lanes {
		if !slices.ContainsFunc(p.lanes, func(known lane) bool { return known.uplink == l.uplink }) {
			p.lanes = append(p.lanes, l)
		}
	}
	p.dealtAll = p.dealtAll && len(p.lanes) == before
	return len(p.lanes) > before
}

// ruleOut keeps a destination from being dealt again, through any line.
func (p *pairs) ruleOut(dst netip.AddrPort) { p.set(dst, ruledOut) }

func (p *pairs) set(dst netip.AddrPort, attempts int) {
	if p.seen == nil {
		p.seen = make(map[netip.AddrPort]int)
	}
	p.seen[dst] = attempts
}
