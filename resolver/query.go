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

// errLate stands for the answer that is not waited for any more.
var errLate = errors.New("the other family's answer is late")

// answer is what is known about one family of a name.
type answer struct {
	qtype   dnsmessage.Type
	addrs   []netip.Addr // none: the name has none of this family
	expires time.Time
	server  netip.AddrPort
	failed  failures // not empty: nobody could answer
}

// askServers asks for both families of name at once and keeps what came of it.
func (r *Resolver) askServers(name string) (entry, error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.timeout)
	answers := make(chan answer, 2)
	for _, qtype := range []dnsmessage.Type{dnsmessage.TypeAAAA, dnsmessage.TypeA} {
		r.lookups.Go(func() { answers <- r.askFamily(ctx, name, qtype) })
	}
	first := <-answers
	var patience <-chan time.Time // never, while there is nothing to answer with
	if slices.ContainsFunc(first.addrs, r.reachable) {
		timer := time.NewTimer(resolutionDelay)
		defer timer.Stop()
		patience = timer.C
	}
	select {
	case second := <-answers:
		cancel()
		// Without an address, one unknown family leaves open whether the name has none.
		if failed := first.failed.add(second.failed); len(failed) > 0 && len(first.addrs)+len(second.addrs) == 0 {
			return entry{}, failed
		}
		return r.keep(name, first, second), nil
	case <-patience:
		r.lookups.Go(func() {
			defer cancel()
			if late := <-answers; len(late.failed) == 0 {
				r.keep(name, first, late)
			}
		})
		return r.keep(name, first, answer{failed: failures{errLate}}), nil
	}
}

// keep joins the answers for both families, IPv6 first, and caches the result for as long as it is good.
func (r *Resolver) keep(name string, a, b answer) entry {
	if a.qtype == dnsmessage.TypeA {
		a, b = b, a
	}
	var e entry
	ttl := maxTTL
	for _, family := range []answer{a, b} {
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

// outcome is what came of a try.
type outcome struct {
	at    int // the server's place
	addrs []netip.Addr
	ttl   time.Duration
	err   error
}

// askFamily asks the servers, from the one that answered last, until one answers. The next try begins when one has failed,
// or beside those that take long: an answer that comes late, over a slow line, is as good as any.
func (r *Resolver) askFamily(ctx context.Context, name string, qtype dnsmessage.Type) answer {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the tries that are not needed any more
	first, dial := int(r.first.Load()), r.dialer()
	tries := rounds * len(r.servers)
	outcomes := make(chan outcome, tries)
	timer := time.NewTimer(r.retryAfter)
	defer timer.Stop()
	errs := make([]error, len(r.servers)) // the last one of each server
	refused := false
	due := true
	for begun, running := 0, 0; ; {
		if due && begun < tries && ctx.Err() == nil {
			at := (first + begun) % len(r.servers)
			r.lookups.Go(func() {
				addrs, ttl, err := ask(ctx, dial, r.servers[at], name, qtype)
				outcomes <- outcome{at, addrs, ttl, err}
			})
			begun++
			running++
			due = false
			timer.Reset(r.retryAfter)
		}
		if running == 0 {
			return answer{qtype: qtype, failed: failuresOf(ctx, errs)}
		}
		select {
		case <-timer.C:
			due = true
		case got := <-outcomes:
			running--
			server := r.servers[got.at]
			if got.err == nil {
				// A server that would not answer for just this name has not become worse than this one.
				if !refused {
					r.first.Store(uint32(got.at))
				}
				return answer{qtype: qtype, addrs: got.addrs, expires: time.Now().Add(got.ttl), server: server}
			}
			r.log.Debug("DNS server did not answer", "server", server, "name", name, "type", qtype.String(), "error", got.err)
			errs[got.at] = &ServerError{Server: server, Err: got.err}
			var code *codeError
			refused = refused || errors.As(got.err, &code)
			due = true
		}
	}
}

// failuresOf lists the errors that there are.
func failuresOf(ctx context.Context, errs []error) failures {
	failed := failures(slices.DeleteFunc(errs, func(err error) bool { return err == nil }))
	if len(failed) == 0 { // closed before the first try
		failed = failures{context.Cause(ctx)}
	}
	return failed
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
