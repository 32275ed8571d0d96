package dispatcher

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"dispatch/dispatcher/relay"
)

// Session is one served request: a relayed connection from accept to end, or one plain HTTP request. It counts as
// live until End, which writes its single closing record.
type Session struct {
	// Request is what it serves; not changed after Begin.
	Request Request

	d        *Dispatcher
	start    time.Time
	bytes    relay.Counters
	attempts atomic.Int32
	conn     atomic.Pointer[Conn] // what carries it; nil before
	ended    atomic.Bool

	prev, next *Session // in the ledger, under its lock
}

// Begin opens a session for a request. The caller ends it.
func (d *Dispatcher) Begin(req Request) *Session {
	s := &Session{Request: req, d: d, start: time.Now()}
	d.ledger.open(s)
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

// End closes the session and writes its record; err is what ended it, nil for a clean end. Only the first call
// counts. What is read or written later is not counted.
func (s *Session) End(err error) {
	if s.ended.Swap(true) {
		return
	}
	class := ClassOf(err)
	s.d.ledger.close(s, class)
	if c := s.conn.Load(); c != nil && c.uplink != nil {
		c.uplink.Release()
	}
	level := slog.LevelInfo
	if !s.d.log.Enabled(context.Background(), level) {
		return
	}
	uplinkName, destination := "", ""
	if c := s.conn.Load(); c != nil {
		uplinkName, destination = lineName(c.uplink), c.destination.String()
	}
	r := &s.Request
	attrs := []slog.Attr{
		slog.String("listener", r.Listener),
		slog.String("protocol", r.Protocol),
		slog.String("client", r.Client.String()),
		slog.String("user", r.User),
		slog.String("host", r.Host),
		slog.Int("port", int(r.Port)),
		slog.String("destination", destination),
		slog.String("uplink", uplinkName),
		slog.Int64("up", s.bytes.Up.Load()),
		slog.Int64("down", s.bytes.Down.Load()),
		slog.Duration("duration", time.Since(s.start)),
		slog.Int("attempts", int(s.attempts.Load())),
		slog.String("class", string(class)),
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	s.d.log.LogAttrs(context.Background(), level, "session closed", attrs...)
}
