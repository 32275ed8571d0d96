package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"dispatch/dispatcher/relay"
	"dispatch/dispatcher/uplink"
)

// Class says why a request or a session ended, for records and for the listeners' replies.
type Class string

// The classes. Each listener translates them to its protocol's replies in one place.
const (
	Clean              Class = ""
	InvalidRequest     Class = "invalid_request" // no destination can be meant by it
	NotAllowed         Class = "not_allowed"     // the gateway's own listeners, the unspecified address, what is for its machine's programs only
	UnknownHost        Class = "unknown_host"    // the name does not exist or has no address
	ResolveFailed      Class = "resolve_failed"  // the resolver gave no answer
	ResolveTimedOut    Class = "resolve_timeout"
	NoUplink           Class = "no_uplink" // no uplink that may be used has an address of a family of the host's
	Refused            Class = "refused"
	NetworkUnreachable Class = "network_unreachable"
	HostUnreachable    Class = "host_unreachable"
	TimedOut           Class = "timeout"
	Exhausted          Class = "exhausted" // this machine ran out of descriptors, ports or memory
	Canceled           Class = "canceled"
	ConnectFailed      Class = "connect_failed" // any other failure of all attempts
	ClientBroken       Class = "client_broken"  // the client's connection was reset or failed in mid-session
	DestinationBroken  Class = "destination_broken"
	Closed             Class = "closed" // ended by this program, on shutdown
)

// served tells whether the session came to carry something before it ended.
func (c Class) served() bool {
	switch c {
	case Clean, ClientBroken, DestinationBroken, Closed:
		return true
	}
	return false
}

// ErrNoUplink says that no uplink can reach any address of the host.
var ErrNoUplink = uplink.ErrNoUplink

// ErrNotAllowed says that the gateway refuses the destination on principle.
var ErrNotAllowed = errors.New("destination not allowed")

// Step is the part of a request's way that failed.
type Step string

// The steps of a request, in order.
const (
	StepCheck   Step = "check"
	StepResolve Step = "resolve"
	StepChoose  Step = "choose"
	StepConnect Step = "connect"
	StepAnswer  Step = "answer"
)

// Error is why a request could not be served. Its text can name local addresses: it is for logs, while Step and
// Class are what a client may see.
type Error struct {
	Step  Step
	Class Class
	Host  string
	Err   error
}

func (e *Error) Error() string { return fmt.Sprintf("%s %s: %v", e.Step, e.Host, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// ClassOf returns the class of an error of Dial, Route, Connect or Conn.Relay; ConnectFailed for one it does not
// know, Clean for nil.
func ClassOf(err error) Class {
	if err == nil {
		return Clean
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	if errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled) {
		return Closed
	}
	if e, ok := errors.AsType[*relay.Error](err); ok {
		if e.Side == relay.Client {
			return ClientBroken
		}
		return DestinationBroken
	}
	return ConnectFailed
}

// classOfAttempt translates the class of an attempt to that of a request.
func classOfAttempt(f uplink.Failure) Class {
	switch f {
	case uplink.Refused, uplink.Reset:
		return Refused
	case uplink.NetworkUnreachable:
		return NetworkUnreachable
	case uplink.HostUnreachable:
		return HostUnreachable
	case uplink.TimedOut:
		return TimedOut
	case uplink.Exhausted, uplink.NoPort:
		return Exhausted
	case uplink.Canceled:
		return Canceled
	}
	return ConnectFailed
}

// resolveClass asks a Resolver's error by methods, so that neither room has to know the other's errors.
func resolveClass(err error) Class {
	type notFound interface {
		error
		NotFound() bool
	}
	type timeout interface {
		error
		Timeout() bool
	}
	if e, ok := errors.AsType[notFound](err); ok && e.NotFound() {
		return UnknownHost
	}
	if errors.Is(err, context.Canceled) {
		return Canceled
	}
	if e, ok := errors.AsType[timeout](err); ok && e.Timeout() {
		return ResolveTimedOut
	}
	return ResolveFailed
}

// noUplink is the failure of a request for which there is no line.
func noUplink(req *Request, destinations []netip.AddrPort, view *uplink.View) error {
	var wanted uplink.Family
	for _, d := range destinations {
		wanted |= uplink.FamilyOf(d.Addr())
	}
	return &Error{Step: StepChoose, Class: NoUplink, Host: req.Host, Err: req.Profile.limits(view.NoUplink(wanted))}
}
