package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
)

var (
	// ErrNotFound is the answer that a name does not exist or has no address: asking again will not help.
	ErrNotFound = errors.New("name does not exist or has no address")
	// ErrInvalidName says that a host is neither an address nor a possible name; nobody was asked.
	ErrInvalidName = errors.New("not a valid host name")
)

// Error is the error of a lookup.
type Error struct {
	Host string // as the caller gave it
	Err  error  // for given servers it wraps a *ServerError for each of them that was asked
}

func (e *Error) Error() string {
	// No name is longer than 255 bytes, but what was refused for its length can be.
	return fmt.Sprintf("resolve %.255q: %v", e.Host, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// NotFound reports whether the host has no address, as far as is known for sure: asking again, or elsewhere, will not help.
func (e *Error) NotFound() bool {
	return errors.Is(e.Err, ErrNotFound) || errors.Is(e.Err, ErrInvalidName)
}

// Timeout reports whether no answer arrived in time; then an answer may be had later, or elsewhere.
func (e *Error) Timeout() bool {
	if errors.Is(e.Err, context.DeadlineExceeded) {
		return true
	}
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

// ServerError says what one DNS server answered, or why it did not.
type ServerError struct {
	Server netip.AddrPort
	Err    error
}

func (e *ServerError) Error() string { return fmt.Sprintf("server %s: %v", e.Server, e.Err) }

func (e *ServerError) Unwrap() error { return e.Err }

// codeError is a response code: the server has heard the question, and does not answer it.
type codeError struct {
	code   string
	reason string
}

func (e *codeError) Error() string { return fmt.Sprintf("answered %s (%s)", e.code, e.reason) }

// onOneLine joins errors, those that read the same once: the questions for both families mostly fail alike.
func onOneLine(errs []error) error {
	var all error
	seen := make(map[string]bool, len(errs))
	for _, err := range errs {
		text := err.Error()
		switch {
		case seen[text]:
		case all == nil:
			all = err
		default:
			all = fmt.Errorf("%w; %w", all, err)
		}
		seen[text] = true
	}
	return all
}
