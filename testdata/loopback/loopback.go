// Package loopback is what tests of several packages need beside their own fixtures: servers, clients and pairs of
// connected sockets on loopback, a log that can be read while it is written, and waits. All that it makes is closed when
// its test ends. Networks of their own have tests from netlab.
package loopback

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// Patience bounds every wait of a test: long, for the machine may be busy, and never waited for in success.
const Patience = 20 * time.Second

// Eventually waits until something holds that nobody tells of.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// Listen listens on a port that is free.
func Listen(t testing.TB) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, l)
	return l
}

// Refusing is an address at which nobody listens.
func Refusing(t testing.TB) netip.AddrPort {
	t.Helper()
	l := Listen(t)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return AddrOf(l)
}

// AddrOf is where a listener listens.
func AddrOf(l net.Listener) netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() }

// Serve has a function serve each connection of a server, which then closes it. An error that it returns, but
// net.ErrClosed, fails the test. The test's end closes the connections that are left, and waits for all.
func Serve(t testing.TB, serve func(*net.TCPConn) error) netip.AddrPort {
	t.Helper()
	l := Listen(t)
	var running sync.WaitGroup
	var mu sync.Mutex
	open := make(map[*net.TCPConn]struct{}) // nil: the test is over
	running.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			mu.Lock()
			if open == nil {
				c.Close()
			} else {
				open[c] = struct{}{}
			}
			mu.Unlock()
			running.Go(func() {
				err := errors.Join(serve(c), c.Close())
				mu.Lock()
				delete(open, c)
				mu.Unlock()
				if err != nil && !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		open = nil
		mu.Unlock()
		running.Wait()
	})
	return AddrOf(l)
}

// Echo sends back what comes, until its end.
func Echo(c *net.TCPConn) error {
	_, err := io.Copy(c, c)
	return err
}

// Dial connects to a server, with Patience for all that follows.
func Dial(t testing.TB, to netip.AddrPort) *net.TCPConn {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, c)
	if err := c.SetDeadline(time.Now().Add(Patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// Pair returns the two ends of a connection, without deadlines.
func Pair(t testing.TB) (dialled, accepted *net.TCPConn) {
	t.Helper()
	l := Listen(t)
	defer l.Close()
	dialled, err := net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, dialled)
	if accepted, err = l.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, accepted)
	return dialled, accepted
}

// closeAtEnd closes what the test may have closed.
func closeAtEnd(t testing.TB, c io.Closer) {
	t.Cleanup(func() {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}
