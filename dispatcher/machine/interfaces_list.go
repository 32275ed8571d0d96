package machine

import (
	"cmp"
	"net/netip"
	"slices"
)

// Interfaces lists all network interfaces of the machine (on Linux: of the calling thread's network namespace),
// also those that are down and the loopback ones, sorted by index. The result is the caller's. An error names
// the question the OS did not answer; there is no partial list.
//
// It asks the OS anew at each call, which takes a fraction of a millisecond on Linux, whatever the size of the
// routing tables, and more elsewhere: a caller on a busy path keeps the answer for a while (see Table).
//
// # What counts as a default route
//
// A route to 0.0.0.0/0 or ::/0 does, and so do two routes by the same interface that halve that space, because
// this is how OpenVPN and WireGuard take over all traffic without touching the route that was there: 0.0.0.0/1
// with 128.0.0.0/1, ::/1 with 8000::/1, 2000::/4 with 3000::/4. For IPv6 only 2000::/3 needs to be covered, as
// no other space is assigned for global unicast. The pair is shown as one DefaultRoute, with the router of the
// lower half and the worse of both metrics. Routes that discard packets (blackhole, unreachable, prohibit) do
// not count.
//
// Linux has many routing tables and rules to choose between them. There the kernel itself is asked, for each
// interface: which route would a connection take that is bound to this interface? And, where `ip rule` has rules
// that look at the source: the same for each of the interface's addresses. So a default route in any table counts
// if such a connection would use it, whatever rule leads there, and of several by one interface only those are
// listed that the kernel prefers. Elsewhere the whole routing table is read and all of them are listed.
func Interfaces() ([]Interface, error) {
	list, routes, err := readInterfaces()
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b Interface) int { return cmp.Compare(a.Index, b.Index) })
	for n := range list {
		i := &list[n]
		slices.SortStableFunc(i.Addresses, func(a, b Address) int {
			return cmp.Compare(FamilyOf(a.Prefix.Addr()), FamilyOf(b.Prefix.Addr()))
		})
		i.DefaultRoutes = defaultRoutes(routes[i.Index])
	}
	return list, nil
}

// route is a row of a routing table; the interface it leaves by is the key it is kept under.
type route struct {
	to     netip.Prefix
	router netip.Addr // invalid where there is none
	metric int
}

// covers tells whether the route takes all destinations of the lower (0) or upper (1) half of what a default
// route of family f is for.
func (r route) covers(f Family, half int) bool {
	switch f {
	case IPv4:
		return r.to.Bits() <= 1 && r.to.Contains(netip.AddrFrom4([4]byte{byte(half) << 7}))
	case IPv6:
		return r.to.Bits() <= 4 && r.to.Contains(netip.AddrFrom16([16]byte{0x20 + byte(half)<<4}))
	}
	return false
}

// defaultRoutes finds the default routes among the routes by one interface: IPv4 first, then by metric, each
// only once. The order of routes does not matter, save among equal metrics.
func defaultRoutes(routes []route) []DefaultRoute {
	var found []DefaultRoute
	add := func(f Family, router netip.Addr, metric int) {
		r := DefaultRoute{Family: f, Router: router, Metric: metric}
		if !slices.Contains(found, r) {
			found = append(found, r)
		}
	}
	for _, f := range []Family{IPv4, IPv6} {
		var halves [2]*route // the best of each
		for n := range routes {
			r := &routes[n]
			covers := [2]bool{r.covers(f, 0), r.covers(f, 1)}
			if covers[0] && covers[1] {
				add(f, r.router, r.metric)
				continue
			}
			for half, h := range halves {
				if covers[half] && (h == nil || r.metric < h.metric) {
					halves[half] = r
				}
			}
		}
		if lower, upper := halves[0], halves[1]; lower != nil && upper != nil {
			add(f, lower.router, max(lower.metric, upper.metric))
		}
	}
	slices.SortStableFunc(found, func(a, b DefaultRoute) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Metric, b.Metric))
	})
	return found
}
