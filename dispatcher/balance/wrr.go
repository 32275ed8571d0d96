package balance

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"dispatch/dispatcher/uplink"
)

// WeightedRoundRobin is the smooth weighted round robin that nginx made known: with weights 5:3:2 the picks
// come as a b c a a b a c b a, spread out, and every run of as many picks as the sum of the weights holds
// each uplink exactly as often as its weight. There is one rotation for each family of destinations and each
// set of lines, so the proportion is exact at once when the set or a weight changes, and a returning uplink
// does not catch up on what it missed. The zero value is ready to use; safe for concurrent use.
type WeightedRoundRobin struct {
	mu        sync.Mutex // held while a rotation is added
	rotations atomic.Pointer[map[rotationKey]*rotation]
}

type rotationKey struct {
	families uplink.Family
	lines    uplink.IDs
}

// maxRotations bounds the memory of sets that were once to choose from. More than these are only seen on machines whose
// lines flap in ever new combinations; then all rotations start afresh.
const maxRotations = 256

// rotation is the sequence of picks of one set, worked out beforehand: a pick is one atomic addition, which
// keeps it exact and cheap on all cores.
type rotation struct {
	shares     []share       // what the sequence was worked out for, in the user's order
	generation atomic.Uint64 // of a View that says the same
	sequence   []uplink.ID
	next       atomic.Uint64
}

type share struct {
	line   *uplink.Uplink
	weight int
}

// Order puts the rotation's pick first, and behind it the others in the order in which they come next.
func (w *WeightedRoundRobin) Order(buf []uplink.ID, c Choice) []uplink.ID {
	if c.Lines.Len() == 1 {
		return append(buf, c.Lines.First())
	}
	r := w.rotation(c)
	at := int((r.next.Add(1) - 1) % uint64(len(r.sequence)))
	for left := c.Lines; left != 0; at++ {
		if at == len(r.sequence) {
			at = 0
		}
		if id := r.sequence[at]; left.Has(id) {
			left = left.Without(id)
			buf = append(buf, id)
		}
	}
	return buf
}

func (w *WeightedRoundRobin) rotation(c Choice) *rotation {
	key := rotationKey{families: c.Families, lines: c.Lines}
	if known := w.known(key, c.View); known != nil {
		return known
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if known := w.known(key, c.View); known != nil {
		return known
	}
	rotations := make(map[rotationKey]*rotation)
	if all := w.rotations.Load(); all != nil && len(*all) < maxRotations {
		rotations = maps.Clone(*all)
	}
	r := newRotation(c)
	rotations[key] = r
	w.rotations.Store(&rotations)
	return r
}

// known returns the rotation for a set, if there is one that was made for the same lines with the same weights: an ID may
// have passed to another line, or a weight may have changed, since the View it was made for.
func (w *WeightedRoundRobin) known(key rotationKey, view *uplink.View) *rotation {
	all := w.rotations.Load()
	if all == nil {
		return nil
	}
	r := (*all)[key]
	if r == nil || r.generation.Load() == view.Generation {
		return r
	}
	for _, s := range r.shares {
		if l := view.BindingOf(s.line); l == nil || l.Weight != s.weight {
			return nil
		}
	}
	r.generation.Store(view.Generation)
	return r
}

func newRotation(c Choice) *rotation {
	r := new(rotation)
	var weights []int
	for n := range c.View.Bindings {
		if l := &c.View.Bindings[n]; c.Lines.Has(l.Uplink.ID()) {
			r.shares = append(r.shares, share{l.Uplink, l.Weight})
			weights = append(weights, l.Weight)
		}
	}
	for _, n := range smooth(weights) {
		r.sequence = append(r.sequence, r.shares[n].line.ID())
	}
	r.generation.Store(c.View.Generation)
	return r
}

// smooth works out one period of the rotation: at each step every candidate gains its weight, and the one that
// has gathered most is picked and pays the sum.
func smooth(weights []int) []uint8 {
	weights = reduced(weights)
	sum := 0
	for _, w := range weights {
		sum += w
	}
	sequence := make([]uint8, 0, sum)
	gathered := make([]int, len(weights))
	for range sum {
		best := 0
		for n, w := range weights {
			gathered[n] += w
			if gathered[n] > gathered[best] {
				best = n
			}
		}
		gathered[best] -= sum
		sequence = append(sequence, uint8(best))
	}
	return sequence
}

// reduced divides the weights by what they have in common, so that 500:300:200 mixes as finely as 5:3:2.
func reduced(weights []int) []int {
	divisor := 0
	for _, w := range weights {
		for a := w; a != 0; {
			divisor, a = a, divisor%a
		}
	}
	out := slices.Clone(weights)
	for n := range out {
		out[n] /= divisor
	}
	return out
}
