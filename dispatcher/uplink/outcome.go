package uplink

import (
	"net/netip"
	"time"
)

// Outcome is what came of one attempt to connect.
type Outcome struct {
	Uplink      *Uplink
	Destination netip.AddrPort
	// Failure is NoFailure for an attempt that connected.
	Failure Failure
	// Err is nil for one that connected.
	Err error
	// Took is how long it went on, until now.
	Took time.Duration
	// Overtaken: it was given up because another line had reached the same destination meanwhile.
	Overtaken bool
}
