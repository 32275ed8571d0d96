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
	// lookEvery is how often the client of a dial that takes its time is looked at. Most dials have ended by then.
	lookEvery = 200 * time.Millisecond
	// leftAfter is how long the FIN of a client that has sent nothing ahead may be the end of what it says, and not of
	// its interest in the answer.
	leftAfter = time.Second
)

// dialing is a dial for a client. It is lent from a pool, with its timer and its functions, so that it costs a quick
// dial next to nothing. A look that comes too late finds no client, or another that is looked at once too often.
type dialing struct {
	pool  *sync.Pool
	timer *time.Timer
	stop  func()

	mu     sync.Mutex
	client dispatcher.Stream // nil: no dial is under way
	early  bool              // the client has sent something behind its request
	ended  time.Time         // when its FIN was first seen
	leave  context.CancelCauseFunc
}

// newDialing makes one for the server's pool.
func (s *Server) newDialing() any {
	d := &dialing{pool: &s.dialings}
	d.stop = d.over
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

func (d *dialing) over() {
	d.mu.Lock()
	d.timer.Stop()
	d.leave(nil)
	d.client, d.leave = nil, nil
	d.mu.Unlock()
	d.pool.Put(d)
}
