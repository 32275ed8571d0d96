package dispatcher

import (
	"bytes"
	"errors"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// TestEndOfAParkedRelay has a connection closed, and another reset, whose relays have no goroutines that would notice.
func TestEndOfAParkedRelay(t *testing.T) {
	ways := []func(*Conn) error{(*Conn).Close, (*Conn).Reset}
	var clients []net.Conn
	var conns []*Conn
	ended := make(chan error, len(ways))
	for range ways {
		conn, client, _ := relaying(t, nil, func(err error) { ended <- err })
		clients, conns = append(clients, client), append(conns, conn)
	}
	stacks := make([]byte, 1<<20)
	for until := time.Now().Add(20 * time.Second); bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("relay.(*Relay).run")); {
		if time.Now().After(until) {
			t.Fatal("the relays keep goroutines")
		}
		time.Sleep(10 * time.Millisecond)
	}
	for i, end := range ways {
		if err := end(conns[i]); err != nil {
			t.Error(err)
		}
		select {
		case err := <-ended:
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("the relay ended with %v, want net.ErrClosed", err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the relay has not ended")
		}
		if _, err := clients[i].Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client saw %v, want a reset", err)
		}
	}
}

// TestResetAllWaitsForNobody has a session whose client was reset after its FIN wait for a destination that takes nothing.
func TestResetAllWaitsForNobody(t *testing.T) {
	ended := make(chan error, 1)
	conn, client, server := relaying(t, nil, func(err error) { ended <- err })
	if err := server.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	if err := client.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	// More than the server's kernel takes, less than this side's kernel does.
	if _, err := client.Write(make([]byte, 512<<10)); err != nil {
		t.Fatal(err)
	}
	if err := client.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // the FIN is passed on
	if err := client.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("the session has ended by itself with %v: the test waits for nothing", err)
	case <-time.After(time.Second):
	}
	conn.owned.d.ResetAll()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the session is told to have ended well")
		}
	case <-time.After(10 * time.Second):
		t.Error("the session goes on")
	}
}
