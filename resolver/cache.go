package resolver

import (
	"net/netip"
	"slices"
	"time"

	"github.com/jellydator/ttlcache/v3"
)

const (
	maxNames = 4096

	// Bounds of a server's TTL: without the lower one a name with TTL 0 would be asked for every connection of
	// a page, without the upper one a changed address could be missed for a week.
	minTTL = time.Second
	maxTTL = time.Hour

	negativeTTL = 10 * time.Second
	partialTTL  = 10 * time.Second // one family only, because the other failed or is late
	systemTTL   = 30 * time.Second // the system tells none; most have a cache of their own that knows it
)

// entry is what is known of a name: addresses, or an error that wraps ErrNotFound.
type entry struct {
	addrs    []netip.Addr
	negative error
}

// cache holds entries until they expire or, beyond maxNames, were not used for longest.
type cache struct {
	entries *ttlcache.Cache[string, entry]
}

func newCache() *cache {
	// ttlcache's cleaner is not started: expired entries are never returned, and capacity bounds their number.
	return &cache{ttlcache.New(
		ttlcache.WithCapacity[string, entry](maxNames),
		ttlcache.WithDisableTouchOnHit[string, entry](), // or a name in use would never expire
	)}
}

func (c *cache) get(name string) (entry, bool) {
	if item := c.entries.Get(name); item != nil {
		return item.Value(), true
	}
	return entry{}, false
}

func (c *cache) put(name string, e entry, ttl time.Duration) {
	c.entries.Set(name, e, boundTTL(ttl))
}

func boundTTL(ttl time.Duration) time.Duration { return min(max(ttl, minTTL), maxTTL) }

// appendUsable appends addr in the form Lookup promises, unless it means "nowhere" or is there already.
func appendUsable(addrs []netip.Addr, addr netip.Addr) []netip.Addr {
	addr = addr.Unmap()
	if !addr.IsValid() || addr.WithZone("").IsUnspecified() || slices.Contains(addrs, addr) {
		return addrs
	}
	return append(addrs, addr)
}
