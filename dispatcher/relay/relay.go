// Package relay moves bytes both ways between two streams.
//
// An idle relay of sockets holds no buffer and no pipe: both directions wait for
// readability first and take a buffer, from a pool, only when there is
// something to read. On Linux a direction that has been idle for a second or two
// gives up its goroutine, too, until there is something to read. And on Linux
// a direction that has proved to be bulk is spliced through a pipe, from a pool of
// bounded size, so that its bytes are never copied to this process. Every byte is
// counted in every mode.
//
// # Truth of endings
//
// What one side is shown is what the other side did:
//
//   - A FIN is passed on at once as a FIN (CloseWrite). The other direction
//     goes on for as long as it likes.
//   - A reset, or any other read error, is passed on as a reset (SO_LINGER 0
//     and close), never as a FIN. What was read before it is still handed over
//     first, to a side that goes on taking it.
//   - After a write error the side that was sending is reset, so that it cannot
//     believe in success. What the broken side had sent before is still handed
//     over first.
//   - A reset that follows a FIN of the same side does not destroy what that
//     FIN had completed: the reset is passed on when the other side has
//     acknowledged all of it. (Only Linux tells whether it has. Elsewhere that
//     side is closed instead, and the kernel resets it if it sends again.)
//
// Where the poller tells (all but Windows), a reset is seen even when it follows
// a FIN and nothing is being sent; on Windows it is then seen at the next write.
//
// A [Stream] that is no socket is read and written through its own methods, with
// a buffer of 2 KiB while it is idle. Its FIN is what its CloseWrite sends: that of
// [crypto/tls.Conn] is close_notify. (Read of that takes a FIN between two records for
// a close_notify, too: then so do we.) A reset is made on the TCP socket that is found
// through SetLinger or NetConn methods, before anything else is closed: a TLS peer sees
// no close_notify then. Where there is no such socket, closing has to do for a reset.
package relay

import (
	"fmt"
	"sync/atomic"
)

// Counters are the live byte counts of one relay. A byte counts once the
// kernel, or the stream's Write method, has taken it for the receiving side.
type Counters struct {
	Up   atomic.Int64 // client to destination
	Down atomic.Int64 // destination to client
}

// Side names one of the two streams of a relay.
type Side uint8

// The two sides of a relay.
const (
	Client Side = iota
	Destination
)

// String returns "client" or "destination".
func (s Side) String() string {
	if s == Client {
		return "client"
	}
	return "destination"
}

// Error is what ended a relay otherwise than by a FIN from either side.
type Error struct {
	Side Side   // the stream that failed
	Op   string // "read", "write" or "copy"
	Err  error  // never nil
}

// Error names the operation, the side and the cause.
func (e *Error) Error() string {
	return fmt.Sprintf("relay: %s %s: %v", e.Op, e.Side, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// PanicError is the cause of an [Error] where a relay ended with a panic.
type PanicError struct {
	Value any
	Stack []byte // as debug.Stack formats it
}

// Error names what the panic was called with.
func (p *PanicError) Error() string { return fmt.Sprintf("panic: %v", p.Value) }
