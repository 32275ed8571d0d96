package doctor

import (
	"net/netip"
	"time"
)

// Die does to what r holds what the end of its process would: it closes the socket, and nothing else.
func (r *Routes) Die() error { return r.claim.release() }

// ReadLease reads the lease of an interface from the files below root.
func ReadLease(root, device string, index int) (address netip.Prefix, router netip.Addr, ok bool) {
	l, ok := leases{root: root}.of(device, index)
	return l.address, l.router, ok
}

// ParseLease reads a lease.
func ParseLease(text, device string, now time.Time) (address netip.Prefix, router netip.Addr, ok bool) {
	l, ok := parseLease(text, device, now)
	return l.address, l.router, ok
}

// Reconfigure is the command of the network manager whose files are below root.
func Reconfigure(root, device string, index int) string {
	return leases{root: root}.reconfigure(device, index)
}

var (
	OlderThan = olderThan
	Quote     = quote
)
