package dispatcher

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"dispatch/dispatcher/uplink"
)

// Connect makes attempts over the route's pairs of line and destination until one succeeds. A failed attempt moves on
// to the next pair; a slow one is overtaken: the next pair starts beside it, and the first to succeed wins
// (RFC 8305 section 5). Lines not yet tried come first, then destinations not yet tried. A destination that refused
// is not tried through another line. When no pair is left, lines that the fleet has got since join. The session takes down
// the attempts; it may be nil. The route is used up: it serves one call. Errors are *Error.
func (d *Dispatcher) Connect(ctx context.Context, route *Route, s *Session) (*Conn, error) {
	r := &race{d: d, request: route.request, generation: route.generation, pairs: pairs{lanes: route.lanes}, session: s, news: newsOf(d.latest.Load()), began: time.Now()}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	defer r.cancel(nil)
	r.run()
	r.rivals.Wait() // until the deadline at most
	r.finish()

	// All runners have ended: the fields are ours alone.
	if r.winner != nil {
		d.setbacks.learn(r.winner.destination(), r.won, r.defeats)
		return r.winner, nil
	}
	class := classOfAttempt(r.worst)
	if r.worst == uplink.NoFailure || r.worst == uplink.Canceled {
		// Not an attempt has ended on its own: the time was up, or the caller gave up.
		class = Canceled
		if r.timedOut() {
			class = TimedOut
		}
		r.note(context.Cause(r.ctx))
	}
	err := fmt.Errorf("%d attempts failed: %w", r.attempts, r.failed)
	return nil, &Error{Step: StepConnect, Class: class, Host: route.request.Host, Err: err}
}

// telling ranks failures by how much they explain to a client: what a destination answered says more than that a
// line was silent, and that more than that a line could not be used.
func telling(f uplink.Failure) int {
	switch f {
	case uplink.Exhausted:
		return 6
	case uplink.Refused, uplink.Reset:
		return 5
	case uplink.TimedOut:
		return 4
	case uplink.HostUnreachable:
		return 3
	case uplink.NetworkUnreachable, uplink.NoPort:
		return 2
	case uplink.Canceled:
		return 0
	}
	return 1
}

func (d *Dispatcher) attemptFailed(ctx context.Context, p pair, class uplink.Failure, err error, took time.Duration) {
	level := slog.LevelDebug
	if p.uplink != nil && class.Blame() == uplink.BlameUplink && d.warnings.due(p.uplink) {
		level = slog.LevelWarn
	}
	d.log.LogAttrs(context.WithoutCancel(ctx), level, "attempt failed",
		slog.String("uplink", lineName(p.uplink)),
		slog.String("destination", p.destination.String()),
		slog.String("class", string(class)),
		slog.Duration("took", took),
		slog.Any("error", err))
}

// warnEvery bounds how often a line's failed attempts are warned of; the others are logged at debug level.
const warnEvery = time.Minute

// warnings is when each line's failed attempts were last warned of. The zero value is ready to use.
type warnings struct {
	mu   sync.Mutex
	last map[*uplink.Uplink]time.Time
}

// due tells whether a warning is due, and takes it as given.
func (w *warnings) due(u *uplink.Uplink) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if last, warned := w.last[u]; warned && now.Sub(last) < warnEvery {
		return false
	}
	if w.last == nil || len(w.last) >= uplink.MaxUplinks { // lines that are gone must not stay for ever
		w.last = make(map[*uplink.Uplink]time.Time)
	}
	w.last[u] = now
	return true
}

// lineName is how a line is called in logs and snapshots.
func lineName(u *uplink.Uplink) string {
	if u == nil {
		return Direct
	}
	return u.Name()
}

// Direct is the name under which connections to local destinations are counted.
const Direct = "direct"
