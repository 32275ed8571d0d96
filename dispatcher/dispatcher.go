// Package dispatcher turns what a client asked for into a connection through one of the uplinks: it resolves
// the host, keeps the pairs of destination and uplink whose families match, lets a strategy order the uplinks,
// makes attempts until one wins, and keeps account of the session that follows.
package dispatcher

import (
	"context"
	"fmt"
	"log/slog"
	"math/bits"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"dispatch/dispatcher/uplink"
)

// connectTimeout bounds all attempts of one request together. Line failures are overtaken long before; this is
// for a destination that answers through no line.
const connectTimeout = 30 * time.Second

// Config is what a Dispatcher is made of.
type Config struct {
	// Uplinks are the lines to choose from.
	Uplinks *uplink.Set
	// Resolver turns names into addresses. Errors for names that do not exist wrap ErrNotFound.
	Resolver Resolver
	// Strategy orders the eligible uplinks; nil means WeightedRoundRobin.
	Strategy Strategy
	// Observer learns what comes of attempts and says which uplinks to avoid; nil: none are.
	Observer Observer
	// Logger takes the closing records and the failures of attempts; nil discards them.
	Logger *slog.Logger
	// ConnectTimeout bounds all attempts of one request together; 0 means 30 s.
	ConnectTimeout time.Duration
}

// Dispatcher is what all listeners funnel into. Safe for concurrent use.
type Dispatcher struct {
	uplinks  *uplink.Set
	resolver Resolver
	strategy Strategy
	observer Observer
	log      *slog.Logger
	timeout  time.Duration
	ledger   ledger
	warned   []atomic.Int64 // when a failed attempt was last warned of, by uplink; Unix seconds
	turn     atomic.Uint64  // of ServerDialer
	alarms   alarms
	setbacks setbacks

	mu  sync.RWMutex
	own []netip.AddrPort // the listeners' own addresses
}

// New makes a Dispatcher.
func New(c Config) *Dispatcher {
	d := &Dispatcher{
		uplinks: c.Uplinks, resolver: c.Resolver, strategy: c.Strategy, observer: c.Observer, log: c.Logger, timeout: c.ConnectTimeout,
		warned: make([]atomic.Int64, len(c.Uplinks.Uplinks())),
	}
	if d.strategy == nil {
		d.strategy = new(WeightedRoundRobin)
	}
	if d.observer == nil {
		d.observer = indifferent{}
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.timeout == 0 {
		d.timeout = connectTimeout
	}
	return d
}

// Protect makes requests to a listener's own address be refused, for they would go round in circles. An
// unspecified address stands for all of the machine's.
func (d *Dispatcher) Protect(listener netip.AddrPort) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.own = append(d.own, netip.AddrPortFrom(listener.Addr().Unmap(), listener.Port()))
}

// protects tells whether dst is one of the gateway's listeners.
func (d *Dispatcher) protects(dst netip.AddrPort, here uplink.Place) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, own := range d.own {
		if own.Port() == dst.Port() && (own.Addr() == dst.Addr().WithZone("") || own.Addr().IsUnspecified() && here.Own) {
			return true
		}
	}
	return false
}

// Dial serves a request whose bytes are to be relayed: it connects to the host through the uplink whose turn it is,
// or through another if that one fails or is slow. The session starts now and ends, with its one closing record,
// when the caller closes the connection or has it relayed; a failed Dial has written that record already.
// Errors are *Error.
func (d *Dispatcher) Dial(ctx context.Context, req Request) (*Conn, error) {
	s := d.Begin(req)
	conn, err := d.dial(ctx, s)
	if err != nil {
		s.End(err)
		return nil, err
	}
	conn.Serve(s)
	conn.owned = s
	return conn, nil
}

func (d *Dispatcher) dial(ctx context.Context, s *Session) (*Conn, error) {
	route, err := d.Route(ctx, &s.Request)
	if err != nil {
		return nil, err
	}
	return d.Connect(ctx, route, s)
}

// ServerDialer returns a function that connects to servers which the gateway itself needs, such as DNS servers, for one
// errand: one attempt a call, through the uplinks in turn, each call by the line behind the last call's, and unbound where
// the server is this machine's or its neighbour. It may be called by several goroutines. Network is "tcp" or "udp". The
// caller closes the connection; no session is counted.
func (d *Dispatcher) ServerDialer() func(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error) {
	var turn atomic.Uint64
	turn.Store(d.turn.Add(1) - 1)
	return func(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error) {
		return d.dialServer(ctx, turn.Add(1)-1, network, server)
	}
}

func (d *Dispatcher) dialServer(ctx context.Context, turn uint64, network string, server netip.AddrPort) (net.Conn, error) {
	view, err := d.uplinks.View()
	if err != nil {
		return nil, err
	}
	lines, direct := eligible(view, view.Place(server.Addr()), server.Addr())
	if direct {
		return dialBy(ctx, network, server, uplink.DialDirectTCP, uplink.DialDirectUDP)
	}
	if lines == 0 {
		return nil, noUplink(server.String(), []netip.AddrPort{server}, view)
	}
	if good := lines &^ d.observer.Avoid(uplink.FamilyOf(server.Addr())); good != 0 {
		lines = good
	}
	for skip := turn % uint64(bits.OnesCount64(lines)); skip > 0; skip-- {
		lines &= lines - 1 // drops the lowest
	}
	u := view.Lines[bits.TrailingZeros64(lines)].Uplink
	return dialBy(ctx, network, server, u.DialTCP, u.DialUDP)
}

// dialBy connects by one way out.
func dialBy(
	ctx context.Context, network string, server netip.AddrPort,
	tcp func(context.Context, netip.AddrPort) (*net.TCPConn, error),
	udp func(context.Context, netip.AddrPort) (*net.UDPConn, error),
) (net.Conn, error) {
	var conn net.Conn
	err := fmt.Errorf("network %q is neither tcp nor udp", network)
	switch network {
	case "tcp":
		conn, err = tcp(ctx, server)
	case "udp":
		conn, err = udp(ctx, server)
	}
	if err != nil {
		return nil, err // not conn: a nil pointer in an interface is not nil
	}
	return conn, nil
}
