package socks

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// TestIdleSession counts what an idle session holds: its two descriptors, and no goroutine. When the server ends, it is
// nevertheless cut at once.
func TestIdleSession(t *testing.T) {
	const sessions = 20
	ended := make(chan error, sessions)
	server := answers(t, func(c *net.TCPConn) error {
		// Between sockets themselves io.Copy holds a pipe, too.
		_, err := io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
		ended <- err
		return nil
	})
	gate, at := startSOCKS(t, gateway(t, nil))
	descriptors, goroutines := openDescriptors(t), runtime.NumGoroutine()
	clients := make([]*net.TCPConn, sessions)
	for i := range clients {
		clients[i] = connect(t, at)
		send(t, clients[i], append(ask5(1, "127.0.0.1", server.Port()), "x"...))
		read(t, clients[i], 12+1)
	}
	awaitParked(t)
	// The test's server has a goroutine a session; one watches over all that are idle.
	if more := runtime.NumGoroutine() - goroutines; more > sessions+1 {
		t.Errorf("%d goroutines more for %d sessions", more, sessions)
	}
	// As many again are the client's and the server's; one is the watcher's.
	if more := openDescriptors(t) - descriptors; more > 2*sessions+2*sessions+1 {
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
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a client saw %v, want a reset", err)
		}
		if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the server saw %v, want a reset", err)
		}
	}
}

// awaitParked waits until no direction of any session has a goroutine, and those that had one have left.
func awaitParked(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		all := stacks[:runtime.Stack(stacks, true)]
		if !bytes.Contains(all, []byte("relay.(*Relay).run")) && !bytes.Contains(all, []byte("relay.(*goroutines)")) {
			return
		}
		if time.Now().After(until) {
			t.Fatal("the sessions keep goroutines")
		}
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
