package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	"dispatch/dispatcher/policy"
	"dispatch/dispatcher/uplink"
)

// Request is what a client asked a listener for.
type Request struct {
	// Profile is the listener's; nil, when no listener was asked, allows all and has no name.
	Profile *Profile
	// Protocol is what the client spoke: "socks5", "socks4", "socks4a", "connect" or "http".
	Protocol string
	// Client is the client's address.
	Client netip.AddrPort
	// User is the name the client gave, empty when it gave none.
	User string
	// Host is a name or an IP literal, without brackets.
	Host string
	Port uint16
}

// Listener names the listener in records and snapshots.
func (r *Request) Listener() string {
	if r.Profile == nil {
		return ""
	}
	return r.Profile.Name
}

// LogValue groups the request's attributes for records.
func (r *Request) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("listener", r.Listener()),
		slog.String("protocol", r.Protocol),
		slog.String("client", r.Client.String()),
		slog.String("host", r.Host),
		slog.Int("port", int(r.Port)),
	)
}

// Resolver turns a host name into all its addresses. That a name does not exist, or has no address, is told by an error
// with a method NotFound() bool that returns true, or by an empty answer.
type Resolver interface {
	Lookup(ctx context.Context, host string) ([]netip.Addr, error)
}

// ResolverFunc makes a function a Resolver.
type ResolverFunc func(ctx context.Context, host string) ([]netip.Addr, error)

// Lookup calls f.
func (f ResolverFunc) Lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return f(ctx, host)
}

// Policy says whether a request may go to a destination, and which way.
type Policy interface {
	Judge(q policy.Query) policy.Verdict
}

// Observer learns what comes of attempts.
type Observer interface {
	// Attempted takes in the outcome of one attempt through an uplink.
	Attempted(o uplink.Outcome)
	// Doubted takes in that a connection which an uplink carries in family f is silent for longer than expected.
	Doubted(u *uplink.Uplink, f uplink.Family)
}

// maxHost is the longest host name of RFC 1035 section 2.3.4 in its textual form with the final dot.
const maxHost = 254

// check refuses what no destination can be, whichever protocol named it. What a name may be made of is for the resolver to
// say; here is what must not get into addresses and records.
func (r *Request) check() error {
	addr, _ := netip.ParseAddr(r.Host) // the zero Addr for a name
	switch {
	case r.Host == "":
		return errors.New("the host is empty; name a host or an address")
	case len(r.Host) > maxHost:
		return fmt.Errorf("the host has %d characters, %d is the most a name can have", len(r.Host), maxHost)
	case r.Port == 0:
		return errors.New("port 0 cannot be connected to; name the port of the service")
	case strings.ContainsFunc(r.Host, func(c rune) bool { return c <= ' ' || c == 0x7f }):
		return fmt.Errorf("the host %q has a space or a control character; name a host or an address", r.Host)
	case addr.Zone() != "" && !addr.IsLinkLocalUnicast():
		// Systems ignore it there: with one, [::] or [::1] would be this machine under a name that nobody recognises.
		return fmt.Errorf("%s has a zone, which belongs to link-local addresses only; leave it out", addr)
	}
	return nil
}
