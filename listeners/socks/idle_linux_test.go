package socks

import (
	"io"
	"net"
	"runtime"
	"testing"

	"dispatch/testdata/loopback"
)

// TestIdleSession counts what an idle session holds: its two descriptors, and no goroutine. When the server ends, it is
// nevertheless cut at once.
func TestIdleSession(t *testing.T) {
	const sessions = 20
	ended := make(chan error, sessions)
	server := loopback.Serve(t, func(c *net.TCPConn) error {
		// Between sockets themselves io.Copy holds a pipe, too.
		_, err := io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
		ended <- err
		return nil
	})
	gate, at := startSOCKS(t, gateway(t, nil))
	descriptors, goroutines := loopback.Descriptors(t), runtime.NumGoroutine()
	clients := make([]*net.TCPConn, sessions)
	for i := range clients {
		clients[i] = loopback.Dial(t, at)
		send(t, clients[i], append(ask5(1, "127.0.0.1", server.Port()), "x"...))
		read(t, clients[i], 12+1)
	}
	// No direction of any session has a goroutine, and those that had one have left.
	loopback.NoGoroutine(t, "relay.(*Relay).run", "relay.(*goroutines)")
	// The test's server has a goroutine a session; one watches over all that are idle.
	if more := runtime.NumGoroutine() - goroutines; more > sessions+1 {
		t.Errorf("%d goroutines more for %d sessions", more, sessions)
	}
	// As many again are the client's and the server's; one is the watcher's.
	if more := loopback.Descriptors(t) - descriptors; more > 2*sessions+2*sessions+1 {
		t.Errorf("%d descriptors more for %d sessions", more, sessions)
	}
	send(t, clients[0], []byte("still there"))
	if got := read(t, clients[0], 11); string(got) != "still there" {
		t.Errorf("got %q", got)
	}
	if cut := gate.Close(); cut != sessions {
		t.Errorf("%d connections were cut, want %d", cut, sessions)
	}
	for _, c := range clients {
		if _, err := c.Read(make([]byte, 1)); !loopback.IsReset(err) {
			t.Errorf("a client saw %v, want a reset", err)
		}
		if err := <-ended; !loopback.IsReset(err) {
			t.Errorf("the server saw %v, want a reset", err)
		}
	}
}
