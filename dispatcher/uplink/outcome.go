package uplink

import (
	"net/netip"
	"time"
)

// Outcome is what came of one attempt to connect.
type Outcome struct {
	Uplink *Uplink
	// Host is what the client asked for, a name or an address; it may have several destinations.
	Host        string
	Destination netip.AddrPort
	// Failure is NoFailure for an attempt that connected.
	Failure Failure
	// Err is nil for one that connected.
	Err error
	// Took is how long it went on, until now.
	Took time.Duration
	// Overtaken says whether it was given up because another line had reached the host meanwhile.
	Overtaken Overtaken
}

// Overtaken is by what a slow attempt was overtaken.
type Overtaken uint8

// An attempt is overtaken there, at its own destination, or elsewhere, at another of the host's.
const (
	NotOvertaken Overtaken = iota
	OvertakenThere
	OvertakenElsewhere
)
