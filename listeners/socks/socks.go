// Package socks serves SOCKS4, SOCKS4a and SOCKS5 clients. SOCKS5 is spoken by the go-socks5 library, one short-lived
// server a connection, so that its callbacks know their client; the older two by this package.
package socks

import (
	"context"
	"log/slog"

	"dispatch/dispatcher"
	"dispatch/listeners"
)

// Dialer is what connects to the destinations; a *dispatcher.Dispatcher.
type Dialer interface {
	Dial(ctx context.Context, req dispatcher.Request) (*dispatcher.Conn, error)
}

// Handler serves SOCKS clients.
type Handler struct {
	dialer Dialer
	log    *slog.Logger
}

// New makes a Handler; a nil logger discards.
func New(dialer Dialer, log *slog.Logger) *Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Handler{dialer: dialer, log: log}
}

// ServeConn serves one client until its session ends, and closes the connection.
func (h *Handler) ServeConn(ctx context.Context, conn *listeners.Conn) {
	defer func() {
		if err := conn.Close(); err != nil {
			h.log.Debug("closing a client's connection failed", "client", conn.Client().String(), "error", err)
		}
	}()
	var version [1]byte
	if _, err := conn.Read(version[:]); err != nil {
		h.log.Debug("reading the SOCKS version failed", "client", conn.Client().String(), "error", err)
		return
	}
	if version[0] == version4 {
		h.serve4(ctx, conn)
	} else {
		h.serve5(ctx, conn)
	}
}
