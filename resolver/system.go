package resolver

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

func lookupSystem(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// askSystem asks the system's resolver for name.
func (r *Resolver) askSystem(name string) (entry, error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.timeout)
	defer cancel()
	found, err := r.system(ctx, name)
	if err != nil && r.ctx.Err() != nil {
		return entry{}, context.Cause(r.ctx)
	}
	if e, ok := errors.AsType[*net.DNSError](err); err != nil && !(ok && e.IsNotFound) {
		return entry{}, err
	}
	var e entry
	for _, addr := range found {
		e.addrs = appendUsable(e.addrs, addr)
	}
	ttl := systemTTL
	if len(e.addrs) == 0 {
		e.negative, ttl = ErrNotFound, negativeTTL
	}
	r.cache.put(name, e, ttl)
	return e, nil
}
