package uplink

import (
	"iter"
	"math/bits"
)

// MaxUplinks bounds a Fleet, so that a set of lines fits a machine word.
const MaxUplinks = 64

// ID is an uplink's slot in its fleet, below MaxUplinks. It is the uplink's while that is of the fleet, and until its last
// session has ended; then another one may get it. What is to be remembered of an uplink is kept by its pointer.
type ID uint8

// IDs is a set of slots. The operators & and &^ intersect and subtract, | unites. The zero value is empty.
type IDs uint64

// Has tells whether id is in the set.
func (s IDs) Has(id ID) bool { return s>>id&1 != 0 }

// With returns the set with id in it.
func (s IDs) With(id ID) IDs { return s | 1<<id }

// Without returns the set without id.
func (s IDs) Without(id ID) IDs { return s &^ (1 << id) }

// Len is how many there are.
func (s IDs) Len() int { return bits.OnesCount64(uint64(s)) }

// First returns the lowest ID of a set that is not empty.
func (s IDs) First() ID { return ID(bits.TrailingZeros64(uint64(s))) }

// Nth returns the ID before which n others of the set stand; n is less than Len.
func (s IDs) Nth(n int) ID {
	for range n {
		s &= s - 1 // drops the lowest
	}
	return s.First()
}

// All yields the IDs in ascending order.
func (s IDs) All() iter.Seq[ID] {
	return func(yield func(ID) bool) {
		for ; s != 0; s &= s - 1 {
			if !yield(s.First()) {
				return
			}
		}
	}
}
