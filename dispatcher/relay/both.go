package relay

import (
	"errors"
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

// Relay is two directions that end each on its own, and what they must agree on at
// the end. The first to end lets the second go on, or hurries it; the second closes
// both streams. [Engine.Relay] makes one.
type Relay struct {
	engine   *Engine
	ends     [2]end // by Side
	up, down flow
	running  atomic.Int32 // directions that have not ended
	done     func(error)

	mu    sync.Mutex
	first *Error // what ended it; nil while only FINs were seen
}

// Start begins to copy, and returns.
func (r *Relay) Start() {
	r.running.Store(2)
	r.engine.lot.enter(&r.up, &r.down)
	r.carry(&r.up)
	r.carry(&r.down)
}

// Wake makes the relay notice that one of its streams has been closed. It
// does no harm at other times, and may be called at any.
func (r *Relay) Wake() { r.engine.lot.wake(&r.up, &r.down) }

// carry gives f a goroutine.
func (r *Relay) carry(f *flow) { kept.run(f) }

// run is what the goroutine of f runs.
func (f *flow) run() { f.relay.run(f) }

// run carries one direction until it ends, or is parked.
func (r *Relay) run(f *flow) {
	parked := false
	defer func() {
		if cause := recover(); cause != nil {
			r.panicked(f, &PanicError{cause, debug.Stack()})
		}
		if !parked {
			r.leave(f)
		}
	}()
	if !f.watching {
		var failure *Error
		if failure, parked = f.copy(); parked {
			return
		}
		if f.watching = r.end(f, failure); !f.watching {
			return
		}
	}
	var broken error
	if parked, broken = f.watch(); broken != nil {
		r.brokenAfterFIN(f, broken)
	}
}

// end passes on how the source of f has ended. It reports whether the source can still
// tell of something: it ended well, and the other direction goes on.
func (r *Relay) end(f *flow, failure *Error) bool {
	if failure == nil && !r.completes(f) {
		failure = r.passFIN(f)
	}
	if r.ended(f, failure) {
		r.finish()
		r.Wake() // the other may be watching a source that is closed now
		return false
	}
	return failure == nil
}

// completes reports whether f, which has ended with a FIN, is the second to do so: closing its receiver, from which
// nothing is left to read, will pass that on.
func (r *Relay) completes(f *flow) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return f.dst.raw != nil && r.other(f).ended && r.first == nil
}

// leave counts out f, which has ended. The second one tells how the relay ended.
func (r *Relay) leave(f *flow) {
	r.engine.lot.leave(f)
	if r.running.Add(-1) > 0 {
		return
	}
	if r.first != nil {
		r.done(r.first)
	} else {
		r.done(nil)
	}
}

// panicked ends the relay because the goroutine of f met a panic, which is what
// is reported, whatever came before.
func (r *Relay) panicked(f *flow, cause *PanicError) {
	failure := &Error{f.from, "copy", cause}
	r.mu.Lock()
	r.first = failure
	ended := f.ended
	r.mu.Unlock()
	if !ended {
		r.ended(f, failure)
	}
	r.ends[Client].reset()
	r.ends[Destination].reset()
	r.Wake()
}

// passFIN tells the receiving side of f that nothing more will come.
func (r *Relay) passFIN(f *flow) *Error {
	r.mu.Lock()
	f.ending = true
	r.mu.Unlock()
	if err := f.dst.stream.CloseWrite(); err != nil {
		return f.writeError(err)
	}
	return nil
}

// other returns the opposite direction.
func (r *Relay) other(f *flow) *flow {
	if f == &r.up {
		return &r.down
	}
	return &r.up
}

// fail notes what ended it, if nothing has yet. The caller must hold r.mu.
func (r *Relay) fail(failure *Error) {
	if r.first == nil {
		r.first = failure
	}
}

// ended notes how f ended, and reports whether it was the second to do so.
func (r *Relay) ended(f *flow, failure *Error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.ending, f.ended, f.failure = true, true, failure
	if f.onEnd != nil {
		close(f.onEnd)
	}
	other := r.other(f)
	if failure != nil {
		r.fail(failure)
		if !other.ended {
			hurry(other, failure)
		}
	}
	return other.ended
}

// awaitEnd waits until f has ended, and returns its failure. It gives up after
// the limit, and then the failure is not known.
func (r *Relay) awaitEnd(f *flow, limit time.Duration) (failure *Error, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !f.ended {
		onEnd := make(chan struct{})
		f.onEnd = onEnd
		r.mu.Unlock()
		select {
		case <-onEnd:
		case <-time.After(limit):
		}
		r.mu.Lock()
	}
	return f.failure, f.ended
}

// brokenAfterFIN ends the relay because the source of f, whose FIN has been
// passed on, is gone altogether.
func (r *Relay) brokenAfterFIN(f *flow, broken error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if other := r.other(f); !other.ending { // else it is gone as it should be
		failure := f.readError(broken)
		r.fail(failure)
		hurry(other, failure)
	}
}

// hurry makes f end soon, because the relay has failed.
func hurry(f *flow, failure *Error) {
	by := time.Now()
	if failure.Op == "write" && !errors.Is(failure, net.ErrClosed) {
		// f reads from the side that broke: let it hand over what is there.
		// A broken socket says when that is all, so this takes no second.
		by = by.Add(afterwards)
	}
	if f.relay.engine.lot.hurry(f, by) != nil {
		f.src.reset()
	}
	if f.dst.stream.SetWriteDeadline(by) != nil {
		f.dst.reset()
	}
}

// finish closes both streams, after both directions have ended.
func (r *Relay) finish() {
	if r.first == nil {
		r.ends[Client].close()
		r.ends[Destination].close()
		return
	}
	// The side that failed first: it will not keep the other waiting.
	first, second := &r.up, &r.down
	if first.to != r.first.Side {
		first, second = second, first
	}
	r.cut(first)
	r.cut(second)
}

// cut closes the receiving side of f, in a relay that failed.
func (r *Relay) cut(f *flow) {
	switch complete := f.failure == nil; {
	case errors.Is(r.first, net.ErrClosed):
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
