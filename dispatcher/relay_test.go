package dispatcher

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines is a log that may be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// relaying is a session of a Dispatcher, with the sockets of client and server.
func relaying(t *testing.T, log *slog.Logger, done func(error)) (conn *Conn, client, server net.Conn) {
	t.Helper()
	conn, client, near, server := connected(t, log)
	conn.Relay(near, done)
	return conn, client, server
}

// connected is a session before anything is copied.
func connected(t *testing.T, log *slog.Logger) (conn *Conn, client net.Conn, near Stream, server net.Conn) {
	t.Helper()
	listen := func() net.Listener {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	accept := func(l net.Listener) net.Conn {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	origin, atHome := listen(), listen()
	d := New(Config{Fleet: house(t), Resolver: names(nil), Logger: log})
	to := origin.Addr().(*net.TCPAddr).AddrPort()
	conn, err := d.Dial(t.Context(), Request{Listener: "test", Host: to.Addr().String(), Port: to.Port()})
	if err != nil {
		t.Fatal(err)
	}
	server = accept(origin)
	client, err = new(net.Dialer).DialContext(t.Context(), "tcp4", atHome.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return conn, client, accept(atHome).(Stream), server
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
	var log lines
	_, client, server := relaying(t, slog.New(slog.NewTextHandler(&log, nil)), func(error) { panic("as a test wants it") })
	_ = client.Close()
	_ = server.Close()
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		got := log.String()
		if strings.Contains(got, "relaying panicked") && strings.Contains(got, "as a test wants it") && strings.Contains(got, "session closed") {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("the log says only: %s", got)
		}
	}
}
