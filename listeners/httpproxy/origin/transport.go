// Package origin is the proxy's side towards the origin servers: an HTTP/1 client on connections that are kept by line,
// host and port. Each request leaves by the line whose turn it is, has a session of its own in which every byte is
// counted, is repeated where that is safe, and ends as its origin ended it.
package origin

import (
	"cmp"
	"log/slog"
	"time"

	"dispatch/dispatcher"
)

// Config is what a Transport is made of.
type Config struct {
	// Dispatcher makes the connections. Required.
	Dispatcher *dispatcher.Dispatcher
	// Proceed is how long an origin that was asked for a 100 (Continue) may leave the question open, for many never
	// answer it (RFC 9110 section 10.1.1); 0 means a second, which is what clients allow, too.
	Proceed time.Duration
	// UnsafeIdle is how long a connection may have been idle that is to carry a request which could not be repeated: the
	// origin may be closing it at this very moment, and the shortest common keep-alive time is 5 s; 0 means 2 s.
	UnsafeIdle time.Duration
	// Logger: nil discards.
	Logger *slog.Logger
}

// Transport sends requests on to their origins. Safe for concurrent use.
type Transport struct {
	dispatcher *dispatcher.Dispatcher
	log        *slog.Logger
	proceed    time.Duration
	unsafeIdle time.Duration
	buffers    buffers
	pool       *pool
	awaited    awaited
}

// New makes a Transport. It holds nothing until it is used; Close releases that.
func New(c Config) *Transport {
	t := &Transport{
		dispatcher: c.Dispatcher,
		log:        c.Logger,
		proceed:    cmp.Or(c.Proceed, time.Second),
		unsafeIdle: cmp.Or(c.UnsafeIdle, 2*time.Second),
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.pool = newPool(t.log)
	t.buffers.init()
	t.awaited.init(c.Dispatcher)
	return t
}

// Close closes the kept connections. No exchange may be under way.
func (t *Transport) Close() { t.pool.close() }
