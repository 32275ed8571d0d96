package relay

import (
	"net"
	"sync/atomic"
	"syscall"
)

// end is one of the two connections.
type end struct {
	conn   net.Conn
	raw    syscall.RawConn // of a *net.TCPConn; nil: use the methods of conn
	closed atomic.Bool
}

// lingerer is a TCP connection, or a wrapper that embeds one.
type lingerer interface {
	net.Conn
	SetLinger(sec int) error
}

type closeWriter interface{ CloseWrite() error }

func (e *end) init(conn net.Conn) {
	e.conn = conn
	if tcp, ok := conn.(*net.TCPConn); ok {
		// An error means that conn is not open: its methods will say so.
		e.raw, _ = tcp.SyscallConn()
	}
}

// close closes a connection that both directions have done with.
func (e *end) close() {
	if !e.closed.Swap(true) {
		// Whatever Close says, there is nothing left to do or to tell.
		_ = e.conn.Close()
	}
}

// reset closes a connection so that its peer sees it break.
func (e *end) reset() {
	if e.closed.Load() {
		return
	}
	if tcp := e.socket(); tcp != nil {
		// An error means that it is closed already.
		_ = tcp.SetLinger(0)
		if tcp != e.conn {
			// Under TLS the socket goes first, for Conn.Close would send
			// a close_notify, which says that all is well.
			_ = tcp.Close()
		}
	}
	e.close()
}

// socket finds the TCP connection that conn is or wraps, or returns nil. Nothing
// is read from it, so it does not matter what a wrapper has buffered.
func (e *end) socket() lingerer {
	for conn := e.conn; conn != nil; {
		if tcp, ok := conn.(lingerer); ok {
			return tcp
		}
		wrapper, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		conn = wrapper.NetConn()
	}
	return nil
}

// rawSocket returns the socket under conn, to ask it things, or nil.
func (e *end) rawSocket() syscall.RawConn {
	if e.raw != nil {
		return e.raw
	}
	if sock, ok := e.socket().(syscall.Conn); ok {
		if raw, err := sock.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}
