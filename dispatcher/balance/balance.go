// Package balance orders the uplinks that a request may use: strategies, and the bands of lines that they order.
package balance

import (
	"net/netip"
	"time"

	"dispatch/dispatcher/uplink"
)

// Choice is what is to be ordered for one request.
type Choice struct {
	// Client is the client's address; invalid where there is none.
	Client netip.Addr
	// Host is the name or address that the client asked for.
	Host string
	// Families are those of the host's addresses that the lines reach.
	Families uplink.Family
	// View is what the lines stand for, with their weights.
	View *uplink.View
	// Lines are the lines to choose from, all of View; never empty.
	Lines uplink.IDs
}

// Strategy orders the lines of one band.
type Strategy interface {
	// Order appends all of c.Lines to buf, the line to be tried first in front, and returns it. It is called once a
	// request, for each band that has a line for it, and from many goroutines.
	Order(buf []uplink.ID, c Choice) []uplink.ID
}

// Bands tells how lines stand: those of a band are tried only after all lines of the bands before it.
type Bands interface {
	// Bands returns disjoint sets for destinations of one family, the best first, which together hold every ID. What it
	// returns is shared and must not be changed.
	Bands(f uplink.Family) []uplink.IDs
}

// Equal is the Bands that know no difference. The zero value is ready to use.
type Equal struct{}

// Bands returns one band.
func (Equal) Bands(uplink.Family) []uplink.IDs { return oneBand }

var oneBand = []uplink.IDs{^uplink.IDs(0)}

// Sampler is a Strategy that learns from what the lines carry.
type Sampler interface {
	Strategy
	// Sample is called every SampleEvery with one entry a line of the fleet. The slice is the caller's.
	Sample(now time.Time, lines []Traffic)
}

// SampleEvery is how often a Sampler is told of traffic.
const SampleEvery = 250 * time.Millisecond

// Traffic is what one line carries.
type Traffic struct {
	Line *uplink.Uplink
	// Open sessions; those of them that are Busy, which have moved bytes since the last sample; and attempts under way.
	Open, Busy, Connecting int
	// Up and Down are the bytes since the start, to and from destinations.
	Up, Down int64
}
