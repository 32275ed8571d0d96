package dispatcher

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
// set of eligible uplinks, so the proportion is exact at once when the set changes, and a returning uplink
// does not catch up on what it missed. The zero value is ready to use; safe for concurrent use.
type WeightedRoundRobin struct {
	mu        sync.Mutex // held while a rotation is added
	rotations atomic.Pointer[map[rotationKey]*rotation]
}

type rotationKey struct {
	families uplink.Family
	eligible uint64
}

// maxRotations bounds the memory of sets that were once eligible. More than these are only seen on machines whose
// lines flap in ever new combinations; then all rotations start afresh.
const maxRotations = 256

// rotation is the sequence of picks of one set, worked out beforehand: a pick is one atomic addition, which
// keeps it exact and cheap on all cores.
type rotation struct {
	sequence []uint8 // indices into the eligible uplinks
	next     atomic.Uint64
}

// Order puts the rotation's pick first, and behind it the others in the order in which they come next.
func (w *WeightedRoundRobin) Order(buf []*uplink.Uplink, c Choice) []*uplink.Uplink {
	if len(c.Eligible) == 1 {
		return append(buf, c.Eligible[0])
	}
	r := w.rotation(c)
	at := int((r.next.Add(1) - 1) % uint64(len(r.sequence)))
	var seen uint64
	for taken := 0; taken < len(c.Eligible); at++ {
		if at == len(r.sequence) {
			at = 0
		}
		n := r.sequence[at]
		if seen&(1<<n) == 0 {
			seen |= 1 << n
			buf = append(buf, c.Eligible[n])
			taken++
		}
	}
	return buf
}

func (w *WeightedRoundRobin) rotation(c Choice) *rotation {
	key := rotationKey{families: c.Families}
	for _, u := range c.Eligible {
		key.eligible |= 1 << u.Number
	}
	if known := w.rotations.Load(); known != nil {
		if r := (*known)[key]; r != nil {
			return r
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	rotations := make(map[rotationKey]*rotation)
	if known := w.rotations.Load(); known != nil {
		if r := (*known)[key]; r != nil {
			return r
		}
		if len(*known) < maxRotations {
			rotations = maps.Clone(*known)
		}
	}
	weights := make([]int, len(c.Eligible))
	for n, u := range c.Eligible {
		weights[n] = u.Weight()
	}
	r := &rotation{sequence: smooth(weights)}
	rotations[key] = r
	w.rotations.Store(&rotations)
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
