package dispatcher

import (
	"sync/atomic"
	"time"

	"dispatch/dispatcher/relay"
)

// Session is one served request: a relayed connection from accept to end, or one plain HTTP request. It counts as
// live until End.
type Session struct {
	// Request is what it serves; not changed after Begin.
	Request Request

	d        *Dispatcher
	began    time.Duration // since the dispatcher was made: a third of what a time takes
	bytes    relay.Counters
	attempts atomic.Int32
	ended    atomic.Bool
	conn     atomic.Pointer[Conn] // what carries it; nil before

	// In the ledger, under its lock.
	prev, next *Session
	sampled    int64 // bytes when it was last sampled
}

// Begin opens a session for a request. The caller ends it.
func (d *Dispatcher) Begin(req Request) *Session {
	s := &Session{Request: req, d: d, began: time.Since(d.made)}
	d.ledger.open(s)
	for _, sink := range d.sinks {
		sink.Opened(s)
	}
	return s
}

// carriedBy notes what carries the session from now on.
func (s *Session) carriedBy(c *Conn) {
	if c.uplink != nil {
		c.uplink.Hold()
	}
	if before := s.conn.Swap(c); before != nil && before.uplink != nil {
		before.uplink.Release()
	}
}

// End closes the session and tells the sinks; err is what ended it, nil for a clean end. Only the first call counts. What
// is read or written later is not counted.
func (s *Session) End(err error) {
	if s.ended.Swap(true) {
		return
	}
	r := Record{
		Request: s.Request, Line: s.lineName(), Began: s.d.made.Add(s.began), Duration: time.Since(s.d.made) - s.began,
		Up: s.bytes.Up.Load(), Down: s.bytes.Down.Load(), Attempts: int(s.attempts.Load()), Class: ClassOf(err), Err: err,
	}
	if c := s.conn.Load(); c != nil {
		r.Destination = c.destination()
		if c.uplink != nil {
			c.uplink.Release()
		}
	}
	s.d.ledger.close(s, &r)
	for _, sink := range s.d.sinks {
		sink.Closed(r)
	}
}
