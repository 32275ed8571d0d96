package dispatcher

import (
	"io"
	"log/slog"
	"net"
	"testing"

	"dispatch/testdata/loopback"
)

// relaying is a session of a Dispatcher, with the sockets of client and server.
func relaying(t *testing.T, log *slog.Logger, done func(error)) (conn *Conn, client, server *net.TCPConn) {
	t.Helper()
	conn, client, near, server := connected(t, log)
	conn.Relay(near, done)
	return conn, client, server
}

// connected is a session before anything is copied.
func connected(t *testing.T, log *slog.Logger) (conn *Conn, client, near, server *net.TCPConn) {
	t.Helper()
	origin := loopback.Listen(t)
	d := New(Config{Fleet: house(t), Resolver: names(nil), Logger: log})
	to := loopback.AddrOf(origin)
	conn, err := d.Dial(t.Context(), Request{Profile: &Profile{Name: "test"}, Host: to.Addr().String(), Port: to.Port()})
	if err != nil {
		t.Fatal(err)
	}
	if server, err = origin.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	client, near = loopback.Pair(t)
	return conn, client, near, server
}

func TestRelayEndsItsSessionBeforeItTells(t *testing.T) {
	ended := make(chan error, 1)
	conn, client, server := relaying(t, nil, func(err error) { ended <- err })
	d := conn.owned.d
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if now := d.Snapshot().All; now.Live != 1 { // the byte may arrive before it is counted
		t.Errorf("while the session lives: %+v", now)
	}
	_ = client.Close()
	_ = server.Close()
	if err := <-ended; err != nil {
		t.Errorf("the session ended with %v", err)
	}
	if now := d.Snapshot().All; now.Live != 0 || now.Total != 1 || now.Up != 1 {
		t.Errorf("after the session: %+v", now)
	}
}

// TestPanicAfterARelayIsLogged has the last of a session panic, on a goroutine that nobody else watches over.
func TestPanicAfterARelayIsLogged(t *testing.T) {
	var log loopback.Log
	_, client, server := relaying(t, log.Logger(), func(error) { panic("as a test wants it") })
	_ = client.Close()
	_ = server.Close()
	loopback.Eventually(t, "the panic and the session to be logged", func() bool {
		return log.Count("relaying panicked") > 0 && log.Count("as a test wants it") > 0 && log.Count("session closed") > 0
	})
}
