// Package resolver turns host names into addresses: through the system's resolver, or by asking given DNS
// servers over connections that the caller opens (and so can bind to an uplink). Answers are kept for as long
// as they may be, and equal questions that arrive together are asked once.
package resolver

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	defaultRetryAfter = time.Second
	defaultTimeout    = 10 * time.Second

	// resolutionDelay is how long an answer of one family waits for the other family's. RFC 8305 section 3
	// says 50 ms; but there a late family only loses a race, here it would be missing from the choice of
	// uplinks, and shares of a dual-stack name would be off until the next answer. So it may take longer.
	resolutionDelay = 250 * time.Millisecond
)

// DialFunc opens a connection to a DNS server; network is "udp" or "tcp". It returns when ctx ends. A "udp"
// connection must be connected, on a socket of its own, with a port the system chose: an attacker who cannot
// see the question has to guess that port as well as the ID. Closing the connection must end a pending Read.
// The resolver closes what it was given, and may call it again meanwhile.
type DialFunc func(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error)

// SystemFunc asks the system's resolver for all addresses of host, a name in lower case without final dot.
// That a name does not exist or has no address is told by a *net.DNSError with IsNotFound.
type SystemFunc func(ctx context.Context, host string) ([]netip.Addr, error)

// Config says whom a Resolver asks. The zero value asks the system's resolver.
type Config struct {
	// Servers are asked instead of the system's resolver, if there are any. The first is asked until it fails
	// to answer, then the next one, which is then kept in turn.
	Servers []netip.AddrPort
	// Dialer is called once for each question, a name and a family, and returns what opens its connections to Servers,
	// once for each try; nil: a plain net.Dialer. Another line for each try makes the second reach a server that the
	// first line did not.
	Dialer func() DialFunc
	// Reachable tells whether anything can be connected to at addr now, as it cannot where no line has an address
	// of its family; nil: anywhere. An answer with nothing that can be reached does not end the wait for the other family's.
	Reachable func(addr netip.Addr) bool
	// HostsFile is read when Servers are asked (the system's resolver reads its own): its names are not asked,
	// and changes to it are seen within some seconds. "": the platform's own, if it is there. A file named here
	// must be readable; a device such as /dev/null counts as an empty file.
	HostsFile string
	// RetryAfter is when a server that has not answered is asked again, or the next one is, while the answer is still
	// waited for; 0: 1 s.
	RetryAfter time.Duration
	// Timeout limits a whole lookup, with all its tries; 0: 10 s. A caller's context may end its own wait earlier.
	Timeout time.Duration
	// System is asked where there are no Servers; nil: net.DefaultResolver.
	System SystemFunc
	// Logger gets failed tries at debug level and an unusable hosts file as a warning; nil: nothing is logged.
	Logger *slog.Logger
}

// Resolver resolves names. Its methods may be called concurrently.
type Resolver struct {
	servers    []netip.AddrPort
	dialer     func() DialFunc
	reachable  func(netip.Addr) bool
	system     SystemFunc
	hosts      *hosts // nil with the system's resolver
	retryAfter time.Duration
	timeout    time.Duration
	log        *slog.Logger

	cache   *cache
	flights singleflight.Group
	first   atomic.Uint32 // index of the server to ask first: the one that answered last

	ctx    context.Context // ended by Close, with net.ErrClosed
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	closed  bool
	lookups sync.WaitGroup // every goroutine that works on a lookup
}

// New makes a Resolver. It reads the hosts file but asks nobody.
func New(c Config) (*Resolver, error) {
	if c.RetryAfter < 0 || c.Timeout < 0 {
		return nil, fmt.Errorf("resolver time-outs %v and %v: must not be negative; 0 stands for the default", c.RetryAfter, c.Timeout)
	}
	r := &Resolver{
		dialer: c.Dialer, reachable: c.Reachable, system: c.System, log: c.Logger, cache: newCache(),
		retryAfter: orDefault(c.RetryAfter, defaultRetryAfter), timeout: orDefault(c.Timeout, defaultTimeout),
	}
	if r.dialer == nil {
		r.dialer = func() DialFunc { return dialUnbound }
	}
	if r.reachable == nil {
		r.reachable = func(netip.Addr) bool { return true }
	}
	if r.system == nil {
		r.system = lookupSystem
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	for _, s := range c.Servers {
		if err := checkServer(s); err != nil {
			return nil, err
		}
		if s = unmapPort(s); !slices.Contains(r.servers, s) {
			r.servers = append(r.servers, s)
		}
	}
	if len(r.servers) > 0 {
		var err error
		if r.hosts, err = openHosts(c.HostsFile, r.log); err != nil {
			return nil, err
		}
	}
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	return r, nil
}

// Lookup returns all addresses of host, IPv6 and IPv4, IPv4 never in its mapped form, without duplicates, in
// the order of the answer within a family. The slice is the caller's own.
//
//   - An IP address (a zone is kept) and "localhost" or a name below it (RFC 6761 section 6.3: loopback, IPv4
//     first) are answered without asking. Case and a final dot make no difference.
//   - Names in Unicode are converted as UTS #46 says. What no host can be called is refused with ErrInvalidName.
//   - The addresses 0.0.0.0 and :: mean "nowhere" (block lists and filtering servers use them so): they are left out,
//     and a name that has no other is not found. Connecting to them would reach the machine itself.
//   - Given servers are asked for A and AAAA at once. Where one family has answered with something Reachable, the other
//     is waited for 250 ms more and then left out, for this and for the lookups until it arrives, at most 10 s.
//   - Answers of servers are kept for their TTL, but 1 s to 1 h; those of the system's resolver, which tells no TTL,
//     30 s; the answer that there are none 10 s. Other failures are not kept.
//
// The error is an *Error, about one of: ErrNotFound; ErrInvalidName; ctx's own error, at once when ctx ends, while
// the question goes on for others who wait for it; net.ErrClosed; or that nobody could answer.
func (r *Resolver) Lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	name, addr, err := parseHost(host)
	switch {
	case err != nil:
		return nil, &Error{Host: host, Err: err}
	case addr.IsValid():
		return []netip.Addr{addr}, nil
	case isLocalhost(name):
		// IPv4 first: most local services listen there only.
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	e, known := r.hosts.lookup(name)
	if !known {
		e, known = r.cache.get(name)
	}
	if !known {
		if e, err = r.share(ctx, name); err != nil {
			return nil, &Error{Host: host, Err: err}
		}
	}
	if e.negative != nil {
		return nil, &Error{Host: host, Err: e.negative}
	}
	return slices.Clone(e.addrs), nil
}

// Close ends lookups under way with an error, waits until their connections are closed, and makes later ones
// that would have to ask fail with net.ErrClosed. It always returns nil.
func (r *Resolver) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel(net.ErrClosed)
	r.lookups.Wait()
	return nil
}

// share waits for the one lookup of name that all its callers share, or until ctx ends.
func (r *Resolver) share(ctx context.Context, name string) (entry, error) {
	if err := ctx.Err(); err != nil {
		return entry{}, err
	}
	// The lookup runs under the resolver's context: it must not end with the caller that happened to be first.
	flight := r.flights.DoChan(name, func() (any, error) { return r.resolve(name) })
	select {
	case <-ctx.Done():
		return entry{}, ctx.Err()
	case result := <-flight:
		e, _ := result.Val.(entry)
		return e, result.Err
	}
}

// resolve asks for name and keeps the answer.
func (r *Resolver) resolve(name string) (entry, error) {
	if !r.enter() {
		return entry{}, net.ErrClosed
	}
	defer r.lookups.Done()
	// An equal lookup may have ended between this caller's look into the cache and now.
	if e, known := r.cache.get(name); known {
		return e, nil
	}
	if len(r.servers) == 0 {
		return r.askSystem(name)
	}
	return r.askServers(name)
}

// enter counts a lookup that Close has to wait for; it reports false when the resolver is closed.
func (r *Resolver) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.lookups.Add(1)
	return true
}

func orDefault(d, standard time.Duration) time.Duration {
	if d == 0 {
		return standard
	}
	return d
}

func dialUnbound(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, server.String())
}
