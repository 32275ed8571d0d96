package listeners

import (
	"context"
	"errors"
	"sync"
	"time"

	"dispatch/dispatcher"
)

// ErrLeft is the cause of a dial's end when its client has left meanwhile.
var ErrLeft = errors.New("the client left")

const (
	// lookEvery is how often the client of a dial is looked at. Most dials have ended before the first look.
	lookEvery = 200 * time.Millisecond
	// leftAfter is how long after its FIN a client that has sent nothing behind its request is taken to wait on.
	leftAfter = time.Second
)

// dialing watches the client of a dial. It comes from a pool, with its timer and its stop, so that a quick dial allocates
// nothing for it. A timer that fires after the dial's end finds no client, or a later dial's, at which it may look.
type dialing struct {
	pool  *sync.Pool
	timer *time.Timer
	stop  func() // end

	mu     sync.Mutex
	client dispatcher.Stream // nil: no dial is under way
	early  bool              // what the client sent behind its request has been read, in part
	ended  time.Time         // when its FIN was first seen
	leave  context.CancelCauseFunc
}

// newDialing makes one for the server's pool.
func (s *Server) newDialing() any {
	d := &dialing{pool: &s.dialings}
	d.stop = d.end
	return d
}

// Dialing says that a dial for the client is under way, and that leave is to end it, with ErrLeft, when the client has
// left. By a reset it has at once (within lookEvery); by a FIN it has after leftAfter, unless something came behind its
// request: then it waits for an answer to that. Early says that the handler holds some of it. Nobody may read from the
// client meanwhile. The caller calls stop, once, when the dial has ended; that calls leave with nil.
func (c *Conn) Dialing(leave context.CancelCauseFunc, early bool) (stop func()) {
	d, _ := c.server.dialings.Get().(*dialing)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.client, d.leave = c.stream, leave
	d.early, d.ended = early || len(c.prefix) > 0, time.Time{}
	if d.timer == nil {
		d.timer = time.AfterFunc(lookEvery, d.look)
	} else {
		d.timer.Reset(lookEvery)
	}
	return d.stop
}

// look ends the dial if its client has left, and else comes back.
func (d *dialing) look() {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.client == nil:
	case d.left(dispatcher.StateOf(d.client)):
		d.leave(ErrLeft)
	default:
		d.timer.Reset(lookEvery)
	}
}

// left tells whether the client has left. The caller must hold d.mu.
func (d *dialing) left(state dispatcher.State) bool {
	switch {
	case state == dispatcher.Broken:
		return true
	case state != dispatcher.Ended || d.early:
		return false
	case d.ended.IsZero():
		d.ended = time.Now()
	}
	return time.Since(d.ended) >= leftAfter
}

// end ends the watch, and calls leave, which releases its context.
func (d *dialing) end() {
	d.mu.Lock()
	d.timer.Stop()
	d.leave(nil)
	d.client, d.leave = nil, nil
	d.mu.Unlock()
	d.pool.Put(d)
}
