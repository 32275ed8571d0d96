// Package socks serves SOCKS4, SOCKS4a and SOCKS5 clients. SOCKS5 is spoken by the go-socks5 library, one short-lived
// server a connection, so that its callbacks know their client; the older two by this package.
package socks

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"dispatch/dispatcher"
	"dispatch/listeners"
)

// Dialer is what connects to the destinations; a *dispatcher.Dispatcher.
type Dialer interface {
	Dial(ctx context.Context, req dispatcher.Request) (*dispatcher.Conn, error)
}

// Handler serves SOCKS clients.
type Handler struct {
	dialer   Dialer
	log      *slog.Logger
	clients4 sync.Pool // of *client4
}

// New makes a Handler; a nil logger discards.
func New(dialer Dialer, log *slog.Logger) *Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	h := &Handler{dialer: dialer, log: log}
	h.clients4.New = func() any { return &client4{in: bufio.NewReaderSize(nil, requestBuffer4)} }
	return h
}

// ServeConn serves one client. It returns when the client has been refused and its connection closed, or when the
// copying has begun, which closes the connection at its end.
func (h *Handler) ServeConn(ctx context.Context, conn *listeners.Conn) {
	if h.serve(ctx, conn) {
		return
	}
	linger(conn)
	if err := conn.Close(); err != nil {
		h.log.Debug("closing a client's connection failed", "client", conn.Client().String(), "error", err)
	}
}

// linger sends a FIN and waits a little for the client's. Closing with input unread, such as what the client already
// meant for its destination, would make the kernel send a reset, which destroys an answer that has not been read yet.
// Whatever fails here ends the waiting.
func linger(conn *listeners.Conn) {
	if conn.CloseWrite() == nil && conn.SetReadDeadline(time.Now().Add(lingerFor)) == nil {
		_, _ = io.CopyN(io.Discard, conn, lingerBytes)
	}
}

const (
	lingerFor   = 500 * time.Millisecond
	lingerBytes = 1 << 20
)

// serve reports whether the copying has begun.
func (h *Handler) serve(ctx context.Context, conn *listeners.Conn) bool {
	version, err := conn.ReadByte()
	if err != nil {
		h.log.Debug("reading the SOCKS version failed", "client", conn.Client().String(), "error", err)
		return false
	}
	if version == version4 {
		return h.serve4(ctx, conn)
	}
	return h.serve5(ctx, conn)
}

// tunnel begins to copy.
func (h *Handler) tunnel(conn *listeners.Conn, dst *dispatcher.Conn, early []byte) {
	conn.Tunnel(dst, early, func(err error) { h.logEnd(conn, err) })
}

// logEnd takes the error that ended a client's business, if one did. The session's record has it, too.
func (h *Handler) logEnd(conn *listeners.Conn, err error) {
	if err != nil {
		h.log.Debug("SOCKS client ended with an error", "client", conn.Client().String(), "error", err)
	}
}
