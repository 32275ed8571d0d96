package dispatcher

import (
	"context"
	"log/slog"
	"net/netip"
	"time"
)

// Record is what is to be said of a session when it has ended.
type Record struct {
	Request Request
	// Line is the name of the uplink that carried it, or Direct; empty when it found none.
	Line string
	// Destination is what it was connected to; invalid when it was not.
	Destination netip.AddrPort
	// Up and Down are bytes, to and from the destination.
	Up, Down int64
	Began    time.Time
	Duration time.Duration
	// Attempts is how many there were to connect.
	Attempts int
	// Class says how it ended; Err why, nil for a clean end.
	Class Class
	Err   error
}

// Sink is told of sessions. It is called on the sessions' own goroutines, from many at once, and must return soon.
type Sink interface {
	// Opened is told when a session begins. Of the session only Request may be read.
	Opened(s *Session)
	// Closed is told once for each session, when it has ended.
	Closed(r Record)
}

// recordLog is the Sink that writes a record a session.
type recordLog struct{ log *slog.Logger }

func (recordLog) Opened(*Session) {}

func (l recordLog) Closed(r Record) {
	ctx, level := context.Background(), slog.LevelInfo
	if !l.log.Enabled(ctx, level) {
		return
	}
	destination := ""
	if r.Destination.IsValid() {
		destination = r.Destination.String()
	}
	attrs := []slog.Attr{
		slog.String("listener", r.Request.Listener()),
		slog.String("protocol", r.Request.Protocol),
		slog.String("client", r.Request.Client.String()),
		slog.String("user", r.Request.User),
		slog.String("host", r.Request.Host),
		slog.Int("port", int(r.Request.Port)),
		slog.String("destination", destination),
		slog.String("uplink", r.Line),
		slog.Int64("up", r.Up),
		slog.Int64("down", r.Down),
		slog.Duration("duration", r.Duration),
		slog.Int("attempts", r.Attempts),
		slog.String("class", string(r.Class)),
	}
	if r.Err != nil {
		attrs = append(attrs, slog.String("error", r.Err.Error()))
	}
	l.log.LogAttrs(ctx, level, "session closed", attrs...)
}
