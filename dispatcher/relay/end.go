package relay

import (
	"sync/atomic"
	"syscall"
)

// end is one of the two streams.
type end struct {
	stream Stream
	raw    syscall.RawConn // of a socket; nil: use the methods of the stream
	closed atomic.Bool
}

func (e *end) init(stream Stream) {
	e.stream = stream
	if sock, ok := stream.(syscall.Conn); ok {
		// An error means that it is not open: its methods will say so.
		e.raw, _ = sock.SyscallConn()
	}
}

// close closes a stream that both directions have done with.
func (e *end) close() {
	if !e.closed.Swap(true) {
		// Whatever Close says, there is nothing left to do or to tell.
		_ = e.stream.Close()
	}
}

// reset closes a stream so that its peer sees it break.
func (e *end) reset() {
	if !e.closed.Swap(true) {
		// As with close.
		_ = Reset(e.stream)
	}
}

// socket returns the socket that the stream is or wraps, to ask it things, or nil.
func (e *end) socket() syscall.RawConn {
	if e.raw != nil {
		return e.raw
	}
	return rawOf(e.stream)
}
