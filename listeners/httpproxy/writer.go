package httpproxy

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"sync"
)

// writer is what goproxy writes a response to.
type writer struct {
	http.ResponseWriter
	client  *client
	request *http.Request
	// switching carries out the 101 that is about to be written; nil when there is none.
	switching func()
	pending   bool // something was written and may be in net/http's buffers

	mu    sync.Mutex // orders the interim responses, which two goroutines send
	final bool       // the final response is next
}

// WriteHeader begins the final response.
func (w *writer) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols && w.switching != nil {
		w.switching()
		return
	}
	w.pending = true
	w.ResponseWriter.WriteHeader(status)
}

// endInterim keeps interim responses away from the final one, whose header is about to be made.
func (w *writer) endInterim() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.final = true
}

// interim sends a 1xx response, and flushes. It tells whether there is still time for one.
func (w *writer) interim(status int, header http.Header) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.final {
		return false
	}
	if !w.request.ProtoAtLeast(1, 1) {
		return true // though not for HTTP/1.0 (RFC 9110 section 15.2)
	}
	h := w.Header()
	for name, values := range header {
		h[name] = values
	}
	w.ResponseWriter.WriteHeader(status)
	clear(h)
	return true
}

// Flush sends what has been written.
func (w *writer) Flush() { _ = w.FlushError() }

// FlushError sends what has been written.
func (w *writer) FlushError() error {
	if w.client.hijacked {
		return nil
	}
	w.pending = false
	if err := http.NewResponseController(w.ResponseWriter).Flush(); err != nil {
		return fmt.Errorf("send to the client: %w", err)
	}
	return nil
}

// flushPending sends what may be in buffers, before something is waited for.
func (w *writer) flushPending() error {
	if !w.pending {
		return nil
	}
	return w.FlushError()
}

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
