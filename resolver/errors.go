package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
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

// codeError is a server's own word that it will not answer, so it was there and heard the question.
type codeError struct {
	code   string
	reason string
}

func (e *codeError) Error() string { return fmt.Sprintf("answered %s (%s)", e.code, e.reason) }

// failures are the errors of several servers, told in one line.
type failures []error

func (f failures) Error() string {
	var b strings.Builder
	for i, err := range f {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(err.Error())
	}
	return b.String()
}

func (f failures) Unwrap() []error { return f }

// add appends those of more that do not read the same as one that is there already: the questions for both
// families mostly fail alike.
func (f failures) add(more failures) failures {
	seen := make(map[string]bool, len(f)+len(more))
	for _, err := range f {
		seen[err.Error()] = true
	}
	for _, err := range more {
		if text := err.Error(); !seen[text] {
			seen[text] = true
			f = append(f, err)
		}
	}
	return f
}
