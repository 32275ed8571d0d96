package dispatcher

import (
	"errors"
	"net"
	"testing"
	"time"

	"dispatch/testdata/loopback"
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
	loopback.NoGoroutine(t, "relay.(*Relay).run")
	for i, end := range ways {
		if err := end(conns[i]); err != nil {
			t.Error(err)
		}
		select {
		case err := <-ended:
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("the relay ended with %v, want net.ErrClosed", err)
			}
		case <-time.After(loopback.Patience):
			t.Fatal("the relay has not ended")
		}
		if _, err := clients[i].Read(make([]byte, 1)); !loopback.IsReset(err) {
			t.Errorf("the client saw %v, want a reset", err)
		}
	}
}

// TestResetAllWaitsForNobody has a session whose client was reset after its FIN wait for a destination that takes nothing.
func TestResetAllWaitsForNobody(t *testing.T) {
	ended := make(chan error, 1)
	conn, client, server := relaying(t, nil, func(err error) { ended <- err })
	if err := server.SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	if err := client.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	// More than the server's kernel takes, less than this side's kernel does.
	if _, err := client.Write(make([]byte, 512<<10)); err != nil {
		t.Fatal(err)
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // the FIN is passed on
	if err := loopback.Reset(client); err != nil {
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
