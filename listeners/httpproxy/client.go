package httpproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"dispatch/listeners"
	"dispatch/listeners/httpproxy/origin"
)

// lingerBytes bounds what is still read of a client after the last response to it.
const lingerBytes = 4 << 20

// client is a client's connection in the eyes of net/http's server.
type client struct {
	*listeners.Conn
	ctx    context.Context
	cancel context.CancelCauseFunc

	// Only of the goroutine that serves the requests.
	exchange *exchange // the plain request under way
	hijacked bool      // the connection is not net/http's any more
	handed   bool      // but a tunnel's, which will close it
	early    []byte    // what the client had sent behind its request when it was hijacked
	owner    origin.Owner

	waiting atomic.Bool  // between two requests
	writes  atomic.Int64 // counts beginnings and ends of writes
	limits  limits

	mu       sync.Mutex
	deadline time.Time     // of reads
	held     chan struct{} // while a Read holds back an end: closed when the deadline ends it

	over atomic.Bool // the client has ended its sending, or broken
	cut  atomic.Bool // what it still sends is the rest of a request that has been answered
}

type clientKey struct{}

// clientOf returns the client whose request r is.
func clientOf(r *http.Request) *client {
	c, _ := r.Context().Value(clientKey{}).(*client)
	return c
}

// contextOf makes a client's requests end with the context it came with.
func contextOf(_ context.Context, conn net.Conn) context.Context {
	c, _ := conn.(*client)
	return context.WithValue(c.ctx, clientKey{}, c)
}

// welcome notes a new client; false when the Handler is closed.
func (h *Handler) welcome(ctx context.Context, conn *listeners.Conn) (*client, bool) {
	// The handshake's deadline would otherwise end the writing of the first response.
	if err := conn.SetDeadline(time.Time{}); err != nil {
		h.log.Debug("clearing a client's deadline failed", "client", conn.Client().String(), "error", err)
		return nil, false
	}
	c := &client{Conn: conn, limits: h.limits}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		c.cancel(nil)
		return nil, false
	}
	h.conns[conn] = c.cancel
	h.running.Add(1)
	return c, true
}

// forget is called once for each connection, when nothing of it runs any more.
func (h *Handler) forget(conn *listeners.Conn) {
	h.mu.Lock()
	cancel := h.conns[conn]
	delete(h.conns, conn)
	h.mu.Unlock()
	if cancel != nil {
		cancel(nil)
	}
	h.running.Done()
}

// handOver makes a client's connection a tunnel's: of the client nothing is kept.
func (h *Handler) handOver(c *client) {
	c.cancel(nil)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns[c.Conn] = nil
}

// leave closes a hijacked connection that became no tunnel.
func (h *Handler) leave(c *client) {
	if c.hijacked && !c.handed {
		h.logClose(c.Close())
		h.forget(c.Conn)
	}
}

// stateChanged follows a connection: an idle one does not hold up a graceful end.
func (h *Handler) stateChanged(conn net.Conn, state http.ConnState) {
	c, _ := conn.(*client)
	switch state {
	case http.StateActive:
		c.waiting.Store(false)
		c.Idle(false)
	case http.StateIdle:
		// With the rest of an answered request in its way the connection is about to be closed, and is busy.
		if !c.cut.Load() {
			c.waiting.Store(true)
			c.Idle(true)
		}
	case http.StateClosed:
		h.forget(c.Conn)
	case http.StateNew, http.StateHijacked: // a hijacked one is forgotten by its tunnel
	}
}

// Read reads from the client, and finds its end where cutInput has made one.
func (c *client) Read(p []byte) (int, error) {
	if c.cut.Load() {
		return 0, io.EOF
	}
	n, err := c.Conn.Read(p)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.over.Store(true)
		if len(p) == 1 && errors.Is(err, io.EOF) {
			err = c.holdEnd()
		}
	}
	return n, err
}

// holdEnd keeps a client's FIN from net/http, which reads one byte ahead while a request is served and would end that.
// A client that has asked its question may well say that it has no more, and wait for the answer. One that has left says
// the same; but its system will meet what is sent to it with a reset. So it has left when nothing has been sent for a
// while.
func (c *client) holdEnd() error {
	c.mu.Lock()
	if isPast(c.deadline) {
		c.mu.Unlock()
		return os.ErrDeadlineExceeded
	}
	held := make(chan struct{})
	c.held = held
	c.mu.Unlock()
	ticker := time.NewTicker(c.limits.ended)
	defer ticker.Stop()
	for before := c.writes.Load(); ; {
		select {
		case <-held:
			return os.ErrDeadlineExceeded
		case <-c.ctx.Done():
			return io.EOF
		case <-ticker.C:
			now := c.writes.Load()
			if writing := now%2 == 1; now == before && !writing {
				return io.EOF
			}
			before = now
		}
	}
}

// Write sends to the client.
func (c *client) Write(p []byte) (int, error) {
	c.writes.Add(1)
	defer c.writes.Add(1)
	return c.Conn.Write(p)
}

func isPast(deadline time.Time) bool { return !deadline.IsZero() && time.Until(deadline) <= 0 }

// SetReadDeadline is how net/http ends its reading ahead.
func (c *client) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadline = t
	if c.held != nil && isPast(t) {
		close(c.held)
		c.held = nil
	}
	c.mu.Unlock()
	return c.Conn.SetReadDeadline(t)
}

// cutInput keeps the unread rest of a request from being taken for the next one.
func (c *client) cutInput() { c.cut.Store(true) }

// Close closes the connection so that the client gets all that was sent to it: unread input would make the kernel
// answer with a reset, which destroys what the client has not read yet (RFC 9112 section 9.6).
func (c *client) Close() error {
	if !c.over.Load() && !c.waiting.Load() {
		c.linger()
	}
	return c.Conn.Close()
}

// linger sends a FIN and waits for the client's. Whatever fails here ends the waiting, and the connection is closed.
func (c *client) linger() {
	if c.CloseWrite() != nil || c.SetReadDeadline(time.Now().Add(c.limits.linger)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
}

// arrivals is the net.Listener that feeds net/http's server.
type arrivals Handler

// Accept waits for ServeConn's next client.
func (a *arrivals) Accept() (net.Conn, error) {
	select {
	case c := <-a.arrivals:
		return c, nil
	case <-a.closed:
		return nil, net.ErrClosed
	}
}

// Close does nothing: the Handler's own Close ends Accept.
func (a *arrivals) Close() error { return nil }

// Addr is of no use: each client has a local address of its own.
func (a *arrivals) Addr() net.Addr { return &net.TCPAddr{} }
