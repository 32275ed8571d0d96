package uplink

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
)

// Failure classes the error of an attempt.
type Failure string

// The classes. Blame tells whom each is held against.
const (
	NoFailure          Failure = ""
	Refused            Failure = "refused"             // the destination answered with a reset to the SYN
	Reset              Failure = "reset"               // the connection broke
	NetworkUnreachable Failure = "network_unreachable" // no route for the line's address
	HostUnreachable    Failure = "host_unreachable"    // no answer from the next hop, or a router said so
	TimedOut           Failure = "timeout"
	LineUnusable       Failure = "line_unusable" // address gone, link down, binding refused
	Forbidden          Failure = "forbidden"     // the machine's own firewall or a prohibit route
	NoPort             Failure = "no_port"       // no local port is left for this source address and destination
	Exhausted          Failure = "exhausted"     // this process or machine ran out of descriptors or memory
	Canceled           Failure = "canceled"      // given up by us: overtaken or shut down
	OtherFailure       Failure = "other"
)

// Blame is whom a failure is held against.
type Blame uint8

// BlameDestination rules the destination out, through every line. After the others the next pair is tried, unless the
// failure is Final.
const (
	BlameUplink Blame = iota
	BlameDestination
	BlameNobody
)

// Blame tells whom the failure is held against.
func (f Failure) Blame() Blame {
	switch f {
	case Refused, Reset:
		return BlameDestination
	case NoPort, Exhausted, Canceled:
		return BlameNobody
	}
	return BlameUplink
}

// Final tells whether no further attempt can go better.
func (f Failure) Final() bool { return f == Exhausted || f == Canceled }

// FailureOf classes an error of DialStream or DialUDP. The classes come from error numbers and types, never from texts; what
// a number means can depend on the system call that gave it, which os.SyscallError names.
func FailureOf(err error) Failure {
	if err == nil {
		return NoFailure
	}
	if _, ok := errors.AsType[*UnavailableError](err); ok {
		return LineUnusable
	}
	if errors.Is(err, context.Canceled) {
		return Canceled
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		if call, ok := errors.AsType[*os.SyscallError](err); ok && call.Syscall == "connect" {
			if class, ok := connectFailures[errno]; ok {
				return class
			}
		}
		if class, ok := failures[errno]; ok {
			return class
		}
	}
	if _, ok := errors.AsType[*BindError](err); ok {
		return LineUnusable
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return TimedOut
	}
	return OtherFailure
}

// outdated tells whether an error may come from a reading of the interfaces that is out of date.
func outdated(err error) bool { return FailureOf(err) == LineUnusable }
