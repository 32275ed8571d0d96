package listeners

import (
	"errors"
	"net"
	"runtime/debug"
	"time"

	"dispatch/dispatcher"
)

// The wait after a failed accept: from short, for a single aborted connection, to a second, while the process is
// out of descriptors and every try would fail.
const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
	// acceptWarnEvery bounds how often failing accepts are warned of.
	acceptWarnEvery = time.Minute
)

// accept serves one listener until it is closed.
func (s *Server) accept(l *listener) {
	var backoff time.Duration
	var warned time.Time
	for {
		tcp, err := l.AcceptTCP()
		if err == nil {
			backoff = 0
			s.welcome(l, tcp)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		backoff = min(max(2*backoff, minBackoff), maxBackoff)
		if warned.IsZero() || time.Since(warned) >= acceptWarnEvery {
			warned = time.Now()
			s.log.Warn("accepting clients fails; trying on", "listener", l.profile.Name, "error", err)
		}
		select {
		case <-time.After(backoff):
		case <-s.base.Done():
			return
		}
	}
}

func (s *Server) welcome(l *listener, stream dispatcher.Stream) {
	c := &Conn{stream: stream, profile: l.profile, server: s, idle: true}
	if !s.track(c) {
		s.closeConn(c)
		return
	}
	dispatcher.Go(func() { s.serve(l, c) })
}

// serve finds out what the client speaks and hands it to that protocol's handler.
func (s *Server) serve(l *listener, c *Conn) {
	defer func() {
		if cause := recover(); cause != nil {
			s.log.Error("serving a client panicked", "listener", l.profile.Name, "client", c.Client().String(),
				"cause", cause, "stack", string(debug.Stack()))
			s.closeConn(c)
		}
	}()
	handler := s.sniff(l, c)
	if handler == nil {
		s.closeConn(c)
		return
	}
	c.Idle(false)
	handler.ServeConn(s.base, c)
}
