package relay

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// afterwards bounds how long the second direction may go on handing over
	// what a broken side had sent before it broke.
	afterwards = time.Second
	// patienceReset and patienceFIN are how long a side that is to be reset may
	// leave unacknowledged what was sent to it: short where that was cut off,
	// and where it was complete about as long as a kernel keeps such a socket.
	patienceReset = time.Second
	patienceFIN   = time.Minute
)

// errNoHalfClose ends the session of a connection that had to be closed whole
// because the direction towards it had ended first.
var errNoHalfClose = fmt.Errorf("no CloseWrite, so its own sending was cut off: %w", errors.ErrUnsupported)

// session is one relay: two directions that end each on its own, and what they
// must agree on at the end. The first to end lets the second go on, or hurries
// it; the second closes both connections.
type session struct {
	ends     [2]end // by Side
	up, down flow
	running  sync.WaitGroup

	mu    sync.Mutex
	first *Error // what ended the session; nil while only FINs were seen
}

func (s *session) runDown() {
	defer s.running.Done()
	s.run(&s.down)
}

// run carries one direction to its end.
func (s *session) run(f *flow) {
	failure := f.copy()
	if failure == nil {
		failure = s.passFIN(f)
	}
	if s.ended(f, failure) {
		s.finish()
	} else if failure == nil {
		if broken := f.watch(); broken != nil {
			s.brokenAfterFIN(f, broken)
		}
	}
}

// passFIN tells the receiving side of f that nothing more will come.
func (s *session) passFIN(f *flow) *Error {
	half, ok := f.dst.conn.(closeWriter)
	s.mu.Lock()
	f.ending = true
	var cutOff *Error
	if !ok && !s.other(f).ending {
		cutOff = &Error{f.to, "write", errNoHalfClose}
		s.fail(cutOff) // before the close, which the other direction will notice
	}
	s.mu.Unlock()
	if !ok {
		f.dst.close()
		return cutOff
	}
	if err := half.CloseWrite(); err != nil {
		return &Error{f.to, "write", err}
	}
	return nil
}

// other returns the opposite direction.
func (s *session) other(f *flow) *flow {
	if f == &s.up {
		return &s.down
	}
	return &s.up
}

// fail notes what ended the session, if nothing has yet. It needs the lock.
func (s *session) fail(failure *Error) {
	if s.first == nil {
		s.first = failure
	}
}

// ended notes how f ended, and reports whether it was the second to do so.
func (s *session) ended(f *flow, failure *Error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.ending, f.ended, f.failure = true, true, failure
	if f.onEnd != nil {
		close(f.onEnd)
	}
	other := s.other(f)
	if failure != nil {
		s.fail(failure)
		if !other.ended {
			hurry(other, failure)
		}
	}
	return other.ended
}

// outcome waits until f has ended, and returns its failure. It gives up after
// the limit, and then the failure is not known.
func (s *session) outcome(f *flow, limit time.Duration) (failure *Error, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !f.ended {
		onEnd := make(chan struct{})
		f.onEnd = onEnd
		s.mu.Unlock()
		select {
		case <-onEnd:
		case <-time.After(limit):
		}
		s.mu.Lock()
	}
	return f.failure, f.ended
}

// brokenAfterFIN ends the session because the source of f, whose FIN has been
// passed on, is gone altogether.
func (s *session) brokenAfterFIN(f *flow, broken *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.other(f); !other.ending { // else it is gone as it should be
		s.fail(broken)
		hurry(other, broken)
	}
}

// hurry makes f end soon, because the session has failed.
func hurry(f *flow, failure *Error) {
	by := time.Now()
	if failure.Op == "write" && !errors.Is(failure, net.ErrClosed) && !errors.Is(failure, errNoHalfClose) {
		// f reads from the side that broke: let it hand over what is there.
		// A broken socket says when that is all, so this takes no second.
		by = by.Add(afterwards)
	}
	if f.src.conn.SetReadDeadline(by) != nil {
		f.src.reset()
	}
	if f.dst.conn.SetWriteDeadline(by) != nil {
		f.dst.reset()
	}
}

// finish closes both connections, after both directions have ended.
func (s *session) finish() {
	if s.first == nil {
		s.ends[Client].close()
		s.ends[Destination].close()
		return
	}
	// The side that failed first: it will not keep the other waiting.
	first, second := &s.up, &s.down
	if first.to != s.first.Side {
		first, second = second, first
	}
	s.cut(first)
	s.cut(second)
}

// cut closes the receiving side of f, in a session that failed.
func (s *session) cut(f *flow) {
	switch complete := f.failure == nil; {
	case errors.Is(s.first, net.ErrClosed):
		f.dst.reset() // we are made to stop: wait for nothing
	case complete && !f.dst.settle(patienceFIN):
		f.dst.close()
	case complete:
		f.dst.reset()
	default:
		f.dst.settle(patienceReset)
		f.dst.reset()
	}
}
