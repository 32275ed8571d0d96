package socks

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"dispatch/dispatcher"
	"dispatch/listeners"
	"dispatch/testdata/loopback"
)

// slow is a Dialer whose every dial lasts until its context ends, but at most for a time.
type slow chan error

func (s slow) Dial(ctx context.Context, req dispatcher.Request) (*dispatcher.Conn, error) {
	var cause error
	select {
	case <-ctx.Done():
		cause = context.Cause(ctx)
	case <-time.After(1700 * time.Millisecond):
	}
	s <- cause
	return nil, &dispatcher.Error{Class: dispatcher.Canceled, Host: req.Host, Err: errors.New("as a test wants it")}
}

// TestDialOfAClientThatLeaves checks that what came behind a request, wherever it is held, makes a FIN no leaving. All
// clients leave at once.
func TestDialOfAClientThatLeaves(t *testing.T) {
	t.Parallel()
	var leaving, results []func()
	for protocol, requests := range map[string][][]byte{
		"SOCKS5":                {ask5(1, "server.test", 80)},
		"SOCKS5 with passwords": {{5, 1, 2}, append([]byte{1, 3}, "eve\x06secret"...), ask5(1, "127.0.0.1", 80)[3:]},
		"SOCKS4":                {ask4("127.0.0.1", 80, "eve")},
		"SOCKS4a":               {ask4("server.test", 80, "eve")},
	} {
		for _, c := range []struct {
			name, early string
			does        func(*net.TCPConn) error
			leaves      bool
		}{
			{"reset", "", loopback.Reset, true},
			{"early data and reset", "early", loopback.Reset, true},
			{"FIN", "", (*net.TCPConn).CloseWrite, true},
			{"early data and FIN", "early", (*net.TCPConn).CloseWrite, false},
		} {
			dialled := make(slow, 1)
			client := loopback.Dial(t, serveSOCKS(t, dialled))
			for n, request := range requests {
				if n == len(requests)-1 {
					request = append(request[:len(request):len(request)], c.early...)
				}
				send(t, client, request)
				if n < len(requests)-1 {
					read(t, client, 2)
				}
			}
			leaving = append(leaving, func() {
				if err := c.does(client); err != nil {
					t.Error(err)
				}
			})
			results = append(results, func() {
				if cause := <-dialled; errors.Is(cause, listeners.ErrLeft) != c.leaves {
					t.Errorf("%s, %s: the dial ended with the cause %v", protocol, c.name, cause)
				}
			})
		}
	}
	time.Sleep(100 * time.Millisecond) // a reset destroys what has not been read
	for _, step := range append(leaving, results...) {
		step()
	}
}
