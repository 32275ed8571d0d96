package relay

import (
	"errors"
	"net"
	"syscall"
)

// Stream is a connection whose two directions end each on its own: a *net.TCPConn,
// a *tls.Conn, a channel of SSH.
//
// What makes TCP cheap and its endings true is asked of a stream, not assumed:
//
//   - One that is a [syscall.Conn] is a socket of package net and nothing else. Its
//     bytes may be read and written past its methods, so whoever wraps a socket to
//     count, replay or encode must not pass that method on, as by embedding.
//   - One with SetLinger, or with a NetConn that leads to one, can be reset, and its
//     socket asked how the peer is.
//
// A stream that has neither is read and written through its methods, and closing it
// has to do for a reset.
type Stream interface {
	net.Conn
	// CloseWrite tells the peer that nothing more will be sent: a FIN, or what
	// the protocol has for it, such as close_notify (RFC 8446 section 6.1).
	CloseWrite() error
}

// lingerer is a TCP connection, or a wrapper that embeds one.
type lingerer interface {
	net.Conn
	SetLinger(sec int) error
}

// socketOf finds the TCP connection that conn is or wraps, or returns nil. Nothing
// is read from it, so it does not matter what a wrapper has buffered.
func socketOf(conn net.Conn) lingerer {
	for conn != nil {
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

// rawOf returns the socket that conn is or wraps, to ask it things, or nil.
func rawOf(conn net.Conn) syscall.RawConn {
	if sock, ok := socketOf(conn).(syscall.Conn); ok {
		if raw, err := sock.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// Reset closes s so that its peer sees it break, where there is a socket to do that.
// One that is closed already is no error.
func Reset(s Stream) error {
	var errs [3]error
	if tcp := socketOf(s); tcp != nil {
		errs[0] = tcp.SetLinger(0)
		if _, itself := s.(lingerer); !itself {
			// Under TLS the socket goes first, for Conn.Close would send
			// a close_notify, which says that all is well.
			errs[1] = tcp.Close()
		}
	}
	errs[2] = s.Close()
	for _, err := range errs {
		if err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
	}
	return nil
}

// State is what a socket tells of its peer, without a wait.
type State uint8

// The states.
const (
	Open   State = iota // the peer is there, and nothing has come that was not read
	Unread              // something has, or its end behind it
	Ended               // its FIN has come, and all before it was read
	Broken              // it was reset, or closed on our side
)

// StateOf looks at the socket that s is or wraps. What a wrapper has buffered is not
// seen, and a stream without a socket is taken to be Open.
func StateOf(s Stream) State {
	sock := socketOf(s)
	if tcp, ok := sock.(*net.TCPConn); ok {
		return stateOfTCP(tcp)
	}
	if sock == nil {
		return Open
	}
	state := Broken
	if raw := rawOf(sock); raw != nil {
		// An error means that it is closed.
		_ = raw.Control(func(fd uintptr) { state = look(fd) })
	}
	return state
}

// stateOfTCP is for what almost all streams are: of calls that the compiler sees through, nothing is allocated.
func stateOfTCP(tcp *net.TCPConn) State {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return Broken
	}
	state := Broken
	_ = raw.Control(func(fd uintptr) { state = look(fd) })
	return state
}
