package relay

import (
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
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

// Session is one relay: two directions that end each on its own, and what they
// must agree on at the end. The first to end lets the second go on, or hurries
// it; the second closes both connections. [New] makes one.
type Session struct {
	engine   *engine
	ends     [2]end // by Side
	up, down flow
	running  atomic.Int32 // directions that have not ended
	done     func(error)

	mu    sync.Mutex
	first *Error // what ended the session; nil while only FINs were seen
}

// Start begins to copy, and returns.
func (s *Session) Start() {
	s.running.Store(2)
	s.engine.lot.enter(&s.up, &s.down)
	s.carry(&s.up)
	s.carry(&s.down)
}

// Wake makes the session notice that one of its connections has been closed. It
// does no harm at other times, and may be called at any.
func (s *Session) Wake() { s.engine.lot.wake(&s.up, &s.down) }

// carry gives f a goroutine.
func (s *Session) carry(f *flow) {
	if f == &s.up {
		Go(s.runUp)
	} else {
		Go(s.runDown)
	}
}

// runUp and runDown are what the goroutines run. They have names for the stack dumps' sake.
func (s *Session) runUp() { s.run(&s.up) }

func (s *Session) runDown() { s.run(&s.down) }

// run carries one direction until it ends, or is parked.
func (s *Session) run(f *flow) {
	parked := false
	defer func() {
		if cause := recover(); cause != nil {
			s.panicked(f, &PanicError{cause, debug.Stack()})
		}
		if !parked {
			s.leave(f)
		}
	}()
	if !f.watching {
		var failure *Error
		if failure, parked = f.copy(); parked {
			return
		}
		if f.watching = s.end(f, failure); !f.watching {
			return
		}
	}
	var broken *Error
	if broken, parked = f.watch(); broken != nil {
		s.brokenAfterFIN(f, broken)
	}
}

// end passes on how the source of f has ended. It reports whether the source can still
// tell of something: it ended well, and the other direction goes on.
func (s *Session) end(f *flow, failure *Error) bool {
	if failure == nil && !s.completes(f) {
		failure = s.passFIN(f)
	}
	if s.ended(f, failure) {
		s.finish()
		s.Wake() // the other may be watching a source that is closed now
		return false
	}
	return failure == nil
}

// completes reports whether f, which has ended with a FIN, is the second to do so: closing its receiver, from which
// nothing is left to read, will pass that on.
func (s *Session) completes(f *flow) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f.dst.raw != nil && s.other(f).ended && s.first == nil
}

// leave counts out f, which has ended. The second one tells how the session ended.
func (s *Session) leave(f *flow) {
	s.engine.lot.leave(f)
	if s.running.Add(-1) > 0 {
		return
	}
	if s.first != nil {
		s.done(s.first)
	} else {
		s.done(nil)
	}
}

// panicked ends the session because the goroutine of f met a panic, which is what
// is reported, whatever came before.
func (s *Session) panicked(f *flow, cause *PanicError) {
	failure := &Error{f.from, "copy", cause}
	s.mu.Lock()
	s.first = failure
	ended := f.ended
	s.mu.Unlock()
	if !ended {
		s.ended(f, failure)
	}
	s.ends[Client].reset()
	s.ends[Destination].reset()
	s.Wake()
}

// passFIN tells the receiving side of f that nothing more will come.
func (s *Session) passFIN(f *flow) *Error {
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
func (s *Session) other(f *flow) *flow {
	if f == &s.up {
		return &s.down
	}
	return &s.up
}

// fail notes what ended the session, if nothing has yet. It needs the lock.
func (s *Session) fail(failure *Error) {
	if s.first == nil {
		s.first = failure
	}
}

// ended notes how f ended, and reports whether it was the second to do so.
func (s *Session) ended(f *flow, failure *Error) bool {
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
func (s *Session) outcome(f *flow, limit time.Duration) (failure *Error, known bool) {
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
func (s *Session) brokenAfterFIN(f *flow, broken *Error) {
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
	if f.session.engine.lot.hurry(f, by) != nil {
		f.src.reset()
	}
	if f.dst.conn.SetWriteDeadline(by) != nil {
		f.dst.reset()
	}
}

// finish closes both connections, after both directions have ended.
func (s *Session) finish() {
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
func (s *Session) cut(f *flow) {
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
