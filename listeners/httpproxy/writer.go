package httpproxy

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"time"

	"dispatch/listeners/httpproxy/origin"
)

// heldBack is more than net/http's buffers keep of a larger write: what is left there then is framing.
const heldBack = 12 << 10

// writer is what goproxy writes a response to, and the client to the exchange with the origin.
type writer struct {
	http.ResponseWriter
	client *client
	// switching carries out the 101 that is about to be written; nil when there is none.
	switching func()
	pending   bool  // something was written and may be in net/http's buffers
	err       error // the first that kept the client from getting all
}

var _ origin.Client = (*writer)(nil)

// WriteHeader begins the final response.
func (w *writer) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols && w.switching != nil {
		w.switching()
		return
	}
	w.pending = true
	w.ResponseWriter.WriteHeader(status)
}

// Write writes some of the final response's body.
func (w *writer) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.pending = len(p) <= heldBack
	return n, w.note(err)
}

// note keeps the first error.
func (w *writer) note(err error) error {
	if err != nil {
		err = fmt.Errorf("send to the client: %w", err)
		if w.err == nil {
			w.err = err
		}
	}
	return err
}

// FlushError sends what may be in net/http's buffers. A Flush there is none: goproxy would call it where none is needed.
func (w *writer) FlushError() error {
	if !w.pending || w.client.hijacked {
		return nil
	}
	w.pending = false
	return w.note(http.NewResponseController(w.ResponseWriter).Flush())
}

// Interim sends a 1xx response, and flushes.
func (w *writer) Interim(status int, header http.Header) {
	h := w.Header()
	for name, values := range header {
		h[name] = values
	}
	w.ResponseWriter.WriteHeader(status)
	clear(h)
}

// StopReading ends the reading of the request's body.
func (w *writer) StopReading() {
	// An error means that it is closed, which ends the reading as well.
	_ = w.client.SetReadDeadline(time.Unix(1, 0))
}

// Closed tells whether this program has ended the client's connection.
func (w *writer) Closed() bool { return w.client.Aborted() || w.client.ctx.Err() != nil }

// Hijack takes the connection from net/http. What its buffer holds is kept in the client's early: goproxy drops it.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.client.hijacked {
		return nil, nil, http.ErrHijacked
	}
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("take the connection over: %w", err)
	}
	w.client.hijacked = true
	// A copy, for the buffer is larger than what it holds and would live as long as the tunnel. Peeking at what is
	// buffered cannot fail.
	held, _ := rw.Reader.Peek(rw.Reader.Buffered())
	w.client.early = append([]byte(nil), held...)
	return conn, rw, nil
}
