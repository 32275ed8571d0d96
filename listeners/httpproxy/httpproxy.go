// Package httpproxy serves HTTP proxy clients: CONNECT tunnels, and plain requests in absolute form (RFC 9112 section
// 3.2.2). net/http reads the requests and writes the responses, goproxy tells the kinds of them apart and carries the
// responses over; httpproxy/origin sends the plain requests on.
//
// A forwarded message gets neither a Via nor an X-Forwarded-For: this proxy works for the user at the client, whom
// both would help to recognise, and there is no chain of proxies that would need them against loops (the dispatcher
// refuses the gateway's own addresses).
package httpproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/elazarl/goproxy"

	"dispatch/dispatcher"
	"dispatch/listeners"
	"dispatch/listeners/httpproxy/origin"
)

const (
	// clientIdleTimeout is how long a client may keep a connection without a request. Browsers keep theirs for
	// minutes and are the ones to close them.
	clientIdleTimeout = 2 * time.Minute
	// maxRequestHead bounds a request's head in bytes. Servers refuse heads far smaller than this.
	maxRequestHead = 256 << 10
)

// limits are the times that are allowed to others; constants but for tests.
type limits struct {
	// ended is for how long a client that has ended its sending is taken to wait for more of a response.
	ended time.Duration
	// linger is how long what a client still sends is read after the last response to it.
	linger time.Duration
}

func defaultLimits() limits {
	return limits{ended: 30 * time.Second, linger: 500 * time.Millisecond}
}

// Config is what a Handler is made of.
type Config struct {
	// Dispatcher makes the connections. Required.
	Dispatcher *dispatcher.Dispatcher
	// Own serves the requests that are for the gateway itself; nil: each gets a 404.
	Own http.Handler
	// HandshakeTimeout bounds the reading of each request's head; 0 means listeners.DefaultHandshakeTimeout.
	HandshakeTimeout time.Duration
	// Logger: nil discards.
	Logger *slog.Logger
}

// Handler serves HTTP proxy clients. Safe for concurrent use. Close releases what it holds.
type Handler struct {
	dispatcher *dispatcher.Dispatcher
	log        *slog.Logger
	proxy      *goproxy.ProxyHttpServer
	server     *http.Server
	origins    *origin.Transport
	arrivals   chan *client
	closed     chan struct{}
	limits     limits
	running    sync.WaitGroup // the accept loop, and every connection until nothing of it runs any more

	mu    sync.Mutex
	ended bool
	conns map[*listeners.Conn]context.CancelCauseFunc // of the clients' requests; nil for a tunnel, which has none
}

var _ listeners.Handler = (*Handler)(nil)

// New makes a Handler and starts it.
func New(c Config) *Handler {
	h := &Handler{
		dispatcher: c.Dispatcher,
		log:        c.Logger,
		origins:    origin.New(origin.Config{Dispatcher: c.Dispatcher, Logger: c.Logger}),
		arrivals:   make(chan *client),
		closed:     make(chan struct{}),
		limits:     defaultLimits(),
		conns:      make(map[*listeners.Conn]context.CancelCauseFunc),
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if c.HandshakeTimeout == 0 {
		c.HandshakeTimeout = listeners.DefaultHandshakeTimeout
	}
	h.proxy = newProxy(h)
	h.proxy.NonproxyHandler = c.Own
	if c.Own == nil {
		h.proxy.NonproxyHandler = http.NotFoundHandler()
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	h.server = &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: c.HandshakeTimeout,
		IdleTimeout:       clientIdleTimeout,
		MaxHeaderBytes:    maxRequestHead,
		ErrorLog:          slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
		ConnContext:       contextOf,
		ConnState:         h.stateChanged,
	}
	h.running.Go(h.serve)
	return h
}

// newProxy makes goproxy do as this package needs.
func newProxy(h *Handler) *goproxy.ProxyHttpServer {
	p := goproxy.NewProxyHttpServer()
	// It took a dialer from HTTPS_PROXY, and its Transport reads HTTP_PROXY and checks no certificate. Neither is
	// used, for all requests are answered below; nothing is to leave by them by mistake.
	p.ConnectDial = nil
	p.Tr = &http.Transport{DialContext: refuseDial}
	p.Logger = proxyLog{h.log}
	p.KeepHeader = true // what is to go of it, origin removes
	hijack := &goproxy.ConnectAction{Action: goproxy.ConnectHijack, Hijack: h.connected}
	p.OnRequest().HandleConnectFunc(func(host string, _ *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) { return hijack, host })
	p.OnRequest().DoFunc(func(r *http.Request, ctx *goproxy.ProxyCtx) (*http.Request, *http.Response) {
		ctx.RoundTripper = clientOf(r).exchange
		return r, nil
	})
	return p
}

var errNotThisWay = errors.New("requests leave through the dispatcher only")

func refuseDial(context.Context, string, string) (net.Conn, error) { return nil, errNotThisWay }

// proxyLog takes goproxy's warnings.
type proxyLog struct{ log *slog.Logger }

func (l proxyLog) Printf(format string, v ...any) {
	l.log.Debug("goproxy warns", "warning", fmt.Sprintf(format, v...))
}

func (h *Handler) serve() {
	if err := h.server.Serve((*arrivals)(h)); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		h.log.Error("the HTTP server stopped", "error", err)
	}
}

// ServeConn takes a client over and returns; the connection is closed when the client or Close ends it.
func (h *Handler) ServeConn(ctx context.Context, conn *listeners.Conn) {
	c, ok := h.welcome(ctx, conn)
	if !ok {
		h.logClose(conn.Close())
		return
	}
	select {
	case h.arrivals <- c:
	case <-h.closed:
		h.logClose(conn.Close())
		h.forget(conn)
	}
}

// ServeHTTP serves one request of a client.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := clientOf(r)
	defer h.leave(c)
	defer h.survive(c)
	switch {
	case r.ProtoMajor != 1: // HTTP/2 without TLS gets this far with its preface, which looks like a request
		reply(w, page(r, http.StatusHTTPVersionNotSupported, "this proxy speaks HTTP/1.1 and HTTP/1.0"))
	case r.Method == http.MethodConnect:
		h.connect(c, w, r)
	case !r.URL.IsAbs():
		h.proxy.ServeHTTP(w, r)
	default:
		h.forward(c, w, r)
	}
}

// survive logs a panic and lets it end the client's connection, with a reset, and nothing else.
func (h *Handler) survive(c *client) {
	cause := recover()
	if cause == nil {
		return
	}
	if err, ok := cause.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
		h.log.Error("serving an HTTP client panicked", "client", c.Client().String(), "cause", cause,
			"stack", string(debug.Stack()))
		h.logClose(c.Abort())
	}
	panic(http.ErrAbortHandler)
}

// Drop is origin.Transport's.
func (h *Handler) Drop(which func(*dispatcher.Conn) bool) { h.origins.Drop(which) }

// CloseIdle is origin.Transport's.
func (h *Handler) CloseIdle(which func(*dispatcher.Conn) bool) { h.origins.CloseIdle(which) }

// Avoid is origin.Transport's.
func (h *Handler) Avoid(which func(*dispatcher.Conn) bool, dead bool) { h.origins.Avoid(which, dead) }

// Close ends all clients' connections and the kept-alive ones, and waits until nothing of them runs any more. A
// listeners.Server that hands over connections is to be closed before; those it still does are closed.
func (h *Handler) Close() error {
	h.mu.Lock()
	if h.ended {
		h.mu.Unlock()
		h.running.Wait()
		return nil
	}
	h.ended = true
	close(h.closed)
	for conn, cancel := range h.conns {
		h.logClose(conn.Abort())
		if cancel != nil {
			cancel(nil) // after the reset: whoever sees it first may end the connection as if all were said
		}
	}
	h.mu.Unlock()
	err := h.server.Close()
	h.running.Wait()
	h.origins.Close()
	if err != nil {
		return fmt.Errorf("close the HTTP server: %w", err)
	}
	return nil
}

// logClose takes the errors of closing connections, which nobody can do anything about.
func (h *Handler) logClose(err error) {
	if err != nil && !errors.Is(err, net.ErrClosed) {
		h.log.Debug("closing a connection failed", "error", err)
	}
}
