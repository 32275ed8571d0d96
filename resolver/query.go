package resolver

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// rounds is how often each server gets the chance to answer: a datagram may be lost, and the caller's Dialer may
// take another line for the next try, one that works or that the server does not refuse.
const rounds = 3

// errLate stands for the half that is not waited for any more.
var errLate = errors.New("the other family's answer is late")

// half is what is known about one family of a name.
type half struct {
	qtype   dnsmessage.Type
	addrs   []netip.Addr // none: the name has none of this family
	expires time.Time
	server  netip.AddrPort
	failed  []error // not empty: nobody could answer
}

// askServers asks for both families of name at once and keeps what came of it.
func (r *Resolver) askServers(name string) (entry, error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.timeout)
	halves := make(chan half, 2)
	for _, qtype := range []dnsmessage.Type{dnsmessage.TypeAAAA, dnsmessage.TypeA} {
		r.lookups.Go(func() { halves <- r.askFamily(ctx, name, qtype) })
	}
	first := <-halves
	var patience <-chan time.Time // never, while there is nothing to answer with
	if slices.ContainsFunc(first.addrs, r.reachable) {
		patience = time.After(resolutionDelay)
	}
	select {
	case second := <-halves:
		cancel()
		// Without an address, one unknown family leaves open whether the name has none.
		if failed := slices.Concat(first.failed, second.failed); len(failed) > 0 && len(first.addrs)+len(second.addrs) == 0 {
			return entry{}, onOneLine(failed)
		}
		return r.keep(name, first, second), nil
	case <-patience:
		r.lookups.Go(func() {
			defer cancel()
			if late := <-halves; len(late.failed) == 0 {
				r.keep(name, first, late)
			}
		})
		return r.keep(name, first, half{failed: []error{errLate}}), nil
	}
}

// keep joins what is known of both families, IPv6 first, and caches the result for as long as it is good.
func (r *Resolver) keep(name string, a, b half) entry {
	if a.qtype == dnsmessage.TypeA {
		a, b = b, a
	}
	var e entry
	ttl := maxTTL
	for _, family := range []half{a, b} {
		for _, addr := range family.addrs {
			e.addrs = appendUsable(e.addrs, addr)
		}
		if len(family.addrs) > 0 {
			ttl = min(ttl, time.Until(family.expires))
		}
		if len(family.failed) > 0 {
			ttl = min(ttl, partialTTL)
		}
	}
	if len(e.addrs) == 0 {
		e.negative, ttl = &ServerError{Server: a.server, Err: ErrNotFound}, negativeTTL
	}
	r.cache.put(name, e, ttl)
	return e
}

// response is what came of asking one server once.
type response struct {
	server int // its index
	addrs  []netip.Addr
	ttl    time.Duration
	err    error
}

// askFamily asks the servers, from the one that answered last, until one answers. The next try begins when one has failed,
// or beside those that take long: an answer that comes late, over a slow line, is as good as any.
func (r *Resolver) askFamily(ctx context.Context, name string, qtype dnsmessage.Type) half {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the tries that are not needed any more
	first, dial := int(r.first.Load()), r.dialer()
	tries := rounds * len(r.servers)
	responses := make(chan response, tries)
	errs := make([]error, len(r.servers)) // the last one of each server
	refused := false
	due := true
	var late <-chan time.Time
	for begun, running := 0, 0; ; {
		if due && begun < tries && ctx.Err() == nil {
			n := (first + begun) % len(r.servers)
			r.lookups.Go(func() {
				addrs, ttl, err := ask(ctx, dial, r.servers[n], name, qtype)
				responses <- response{n, addrs, ttl, err}
			})
			begun++
			running++
			due = false
			late = time.After(r.retryAfter)
		}
		if running == 0 {
			failed := slices.DeleteFunc(errs, func(err error) bool { return err == nil })
			if len(failed) == 0 { // closed before the first try
				failed = []error{context.Cause(ctx)}
			}
			return half{qtype: qtype, failed: failed}
		}
		select {
		case <-late:
			due = true
		case got := <-responses:
			running--
			server := r.servers[got.server]
			if got.err == nil {
				// A server that would not answer for just this name has not become worse than this one.
				if !refused {
					r.first.Store(uint32(got.server))
				}
				return half{qtype: qtype, addrs: got.addrs, expires: time.Now().Add(got.ttl), server: server}
			}
			r.log.Debug("DNS server did not answer", "server", server, "name", name, "type", qtype.String(), "error", got.err)
			errs[got.server] = &ServerError{Server: server, Err: got.err}
			if _, heard := errors.AsType[*codeError](got.err); heard {
				refused = true
			}
			due = true
		}
	}
}

// ask asks one server for one family of name: over UDP with EDNS, without EDNS if the server knows no EDNS, and
// over TCP what did not fit.
func ask(
	ctx context.Context, dial DialFunc, server netip.AddrPort, name string, qtype dnsmessage.Type,
) ([]netip.Addr, time.Duration, error) {
	edns := true
	for {
		query, err := newQuery(name, qtype, edns)
		if err != nil {
			return nil, 0, err
		}
		reply, err := try(ctx, dial, "udp", server, query)
		if err == nil && truncated(reply) {
			reply, err = try(ctx, dial, "tcp", server, query)
		}
		if err != nil {
			return nil, 0, err
		}
		if edns && refusesEDNS(reply) {
			edns = false
			continue
		}
		return parseAnswer(reply, name, qtype)
	}
}
