// Package listeners is what all listeners share: the accept loop that survives errors and panics, the sniffing of
// the protocol by its first byte, the tracking of connections and the graceful end. The protocols themselves are
// Handlers of the packages below.
package listeners

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"dispatch/dispatcher"
)

// DefaultHandshakeTimeout is how long a client may take to say what it wants.
const DefaultHandshakeTimeout = 10 * time.Second

// Handler speaks one protocol to clients.
type Handler interface {
	// ServeConn serves one connection and owns it: it closes it, before or after it returns. The connection is
	// marked busy. ctx ends when the server is closed by force. A panic is logged and closes the connection.
	ServeConn(ctx context.Context, conn *Conn)
}

// Kind is the protocol a listener is meant for. Each listener serves both all the same.
type Kind string

// The kinds.
const (
	SOCKS Kind = "socks"
	HTTP  Kind = "http"
)

// Config is what a Server is made of.
type Config struct {
	// SOCKS serves clients that begin as SOCKS4, 4a or 5, HTTP those that begin with a request line.
	SOCKS, HTTP Handler
	// HandshakeTimeout bounds the wait for the first byte; 0 means DefaultHandshakeTimeout.
	HandshakeTimeout time.Duration
	// Logger: nil discards.
	Logger *slog.Logger
}

// Server is a set of listeners with their clients' connections.
type Server struct {
	handlers  map[Kind]Handler
	handshake time.Duration
	log       *slog.Logger
	strangers strangers
	dialings  sync.Pool // of *dialing

	base   context.Context // of all connections; ends when they are closed by force
	cancel context.CancelFunc

	mu        sync.Mutex
	listeners []*listener
	conns     map[*Conn]struct{}
	ending    bool          // shutting down: idle connections are closed
	drained   chan struct{} // closed when ending and no connection is left
	accepting sync.WaitGroup
}

// listener is one bound address.
type listener struct {
	*net.TCPListener
	kind    Kind
	profile *dispatcher.Profile
}

// New makes a Server without listeners.
func New(c Config) *Server {
	s := &Server{
		handlers:  map[Kind]Handler{SOCKS: c.SOCKS, HTTP: c.HTTP},
		handshake: c.HandshakeTimeout,
		log:       c.Logger,
		conns:     make(map[*Conn]struct{}),
		drained:   make(chan struct{}),
	}
	if s.handshake == 0 {
		s.handshake = DefaultHandshakeTimeout
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.dialings.New = s.newDialing
	s.base, s.cancel = context.WithCancel(context.Background())
	return s
}

// keepAlive finds clients that vanished, within about two minutes.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 45 * time.Second, Interval: 15 * time.Second, Count: 5}

// Listen binds one address, without accepting yet, and returns it with the port that a 0 became. Its clients' requests get
// the profile, named after the kind and the bound address if it has no name. On an error nothing is bound by this call;
// those bound before are released by Close.
func (s *Server) Listen(ctx context.Context, kind Kind, address netip.AddrPort, profile dispatcher.Profile) (netip.AddrPort, error) {
	var lc net.ListenConfig
	keepClientsAlive(&lc)
	// Clients are on this machine or its LAN: several paths to them gain nothing and cost on every segment.
	lc.SetMultipathTCP(false)
	network := "tcp4"
	if address.Addr().Is6() {
		network = "tcp6"
		if address.Addr().IsUnspecified() {
			network = "tcp" // [::] means both families, as everywhere
		}
	}
	bound, err := lc.Listen(ctx, network, address.String())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("listen for %s on %s: %w", kind, address, err)
	}
	tcp, ok := bound.(*net.TCPListener)
	if !ok {
		return netip.AddrPort{}, errors.Join(fmt.Errorf("listen for %s on %s: not a TCP socket", kind, address), bound.Close())
	}
	actual := netip.AddrPortFrom(address.Addr(), tcp.Addr().(*net.TCPAddr).AddrPort().Port())
	profile.Name = cmp.Or(profile.Name, string(kind)+" "+actual.String())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners, &listener{TCPListener: tcp, kind: kind, profile: &profile})
	return actual, nil
}

// Start begins to accept on all bound addresses.
func (s *Server) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		s.accepting.Go(func() { s.accept(l) })
	}
}

// Shutdown stops accepting, closes idle connections and lets the others finish until ctx ends; then it closes them.
// It returns the number of those.
func (s *Server) Shutdown(ctx context.Context) int {
	s.closeListeners()
	s.mu.Lock()
	s.ending = true
	var idle []*Conn
	for c := range s.conns {
		if c.idle {
			idle = append(idle, c)
		}
	}
	s.checkDrained()
	s.mu.Unlock()
	for _, c := range idle {
		s.closeConn(c)
	}
	select {
	case <-s.drained:
	case <-ctx.Done():
	}
	return s.Close()
}

// Close closes all listeners and connections at once, with a reset, so that no client takes a cut download for a
// whole one. It returns the number of connections.
func (s *Server) Close() int {
	s.closeListeners()
	s.mu.Lock()
	s.ending = true
	left := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		left = append(left, c)
	}
	s.checkDrained()
	s.mu.Unlock()
	for _, c := range left {
		if err := c.Abort(); err != nil {
			s.log.Debug("closing a client's connection failed", "client", c.Client().String(), "error", err)
		}
	}
	s.cancel() // after the resets: a handler that sees it first may end its connection as if all were said
	s.accepting.Wait()
	return len(left)
}

func (s *Server) closeListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			s.log.Warn("closing a listener failed", "listener", l.profile.Name, "error", err)
		}
	}
}

func (s *Server) closeConn(c *Conn) {
	if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		s.log.Debug("closing a client's connection failed", "client", c.Client().String(), "error", err)
	}
}

// track takes in a new connection; false when the server is ending.
func (s *Server) track(c *Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) forget(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.checkDrained()
}

func (s *Server) setIdle(c *Conn, idle bool) {
	s.mu.Lock()
	c.idle = idle
	end := idle && s.ending
	s.mu.Unlock()
	if end {
		s.closeConn(c)
	}
}

// checkDrained tells Shutdown when the last connection is gone. The caller must hold s.mu.
func (s *Server) checkDrained() {
	if !s.ending || len(s.conns) > 0 {
		return
	}
	select {
	case <-s.drained:
	default:
		close(s.drained)
	}
}
