package netlab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// peerTimeout bounds how long a server waits for a client that neither sends nor closes.
const peerTimeout = 30 * time.Second

// echoPeer is EchoPeer's server. The zero value needs open, and accept running.
type echoPeer struct {
	running sync.WaitGroup // accept and the connections

	mu        sync.Mutex
	open      map[net.Conn]struct{} // nil once stopped
	acceptErr error
}

func (s *echoPeer) accept(ln net.Listener) {
	defer s.running.Done()
	for {
		conn, err := ln.Accept()
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			if !errors.Is(err, net.ErrClosed) {
				s.acceptErr = fmt.Errorf("accepting: %w", err)
			}
			return
		}
		if !s.track(conn) {
			conn.Close()
			return
		}
		s.running.Add(1)
		go s.serve(conn)
	}
}

// serve answers one connection. Errors are the client's doing, and for the test to see at the client's end.
func (s *echoPeer) serve(conn net.Conn) {
	defer s.running.Done()
	defer s.untrack(conn)
	if err := conn.SetDeadline(time.Now().Add(peerTimeout)); err != nil {
		return
	}
	if _, err := fmt.Fprintln(conn, conn.RemoteAddr()); err != nil {
		return
	}
	// Closing with unread input would reset the connection, and the reset could overtake the answer. Ending this
	// side first leaves TIME_WAIT here and not among the client's ports.
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, conn)
}

func (s *echoPeer) track(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		return false
	}
	s.open[conn] = struct{}{}
	return true
}

func (s *echoPeer) untrack(conn net.Conn) {
	conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, conn)
}

// stop closes the listener and the connections, and returns when all that ran has ended.
func (s *echoPeer) stop(ln net.Listener) error {
	err := ln.Close()
	s.mu.Lock()
	for conn := range s.open {
		conn.Close()
	}
	s.open = nil
	s.mu.Unlock()
	s.running.Wait()
	return errors.Join(err, s.acceptErr)
}
