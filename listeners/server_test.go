package listeners

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"dispatch/dispatcher"
	"dispatch/testdata/loopback"
)

type handlerFunc func(context.Context, *Conn)

func (f handlerFunc) ServeConn(ctx context.Context, c *Conn) { f(ctx, c) }

// named answers with its name and what it read first.
func named(name string) Handler {
	return handlerFunc(func(_ context.Context, c *Conn) {
		buf := make([]byte, 64)
		n, err := c.Read(buf)
		if err == nil {
			_, err = c.Write([]byte(name + ":" + string(buf[:n])))
		}
		if err := errors.Join(err, c.Close()); err != nil {
			panic(err)
		}
	})
}

func startServer(t *testing.T, c Config) (*Server, netip.AddrPort) {
	t.Helper()
	s := New(c)
	at, err := s.Listen(t.Context(), SOCKS, netip.MustParseAddrPort("127.0.0.1:0"), dispatcher.Profile{})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Close() })
	return s, at
}

func say(t *testing.T, c *net.TCPConn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestAnyPortUnderstandsBoth(t *testing.T) {
	t.Parallel()
	var log loopback.Log
	_, at := startServer(t, Config{SOCKS: named("socks"), HTTP: named("http"), Logger: log.Logger()})
	for greeting, want := range map[string]string{
		"\x05\x01\x00": "socks", "\x04\x01": "socks", "GET /": "http", "CONNECT x": "http", "get": "http",
	} {
		c := loopback.Dial(t, at)
		say(t, c, greeting)
		got, err := io.ReadAll(c)
		if err != nil || string(got) != want+":"+greeting {
			t.Errorf("%q was answered %q, %v; want by %s", greeting, got, err, want)
		}
	}
	if n := log.Count("another protocol than this listener is for"); n != 1 {
		t.Errorf("the HTTP clients of one address were told of %d times", n)
	}
}

func TestStrangeFirstBytesAreClosed(t *testing.T) {
	t.Parallel()
	var log loopback.Log
	_, at := startServer(t, Config{SOCKS: named("socks"), HTTP: named("http"), Logger: log.Logger()})
	for _, greeting := range []string{"\x16\x03\x01", "\x00", "\xff", " "} {
		c := loopback.Dial(t, at)
		say(t, c, greeting)
		// What was sent may make the end a reset.
		if got, err := io.ReadAll(c); len(got) != 0 || err != nil && !loopback.IsReset(err) {
			t.Errorf("%q was answered %q, %v", greeting, got, err)
		}
	}
	if log.Count("http:// or socks5://") != 1 {
		t.Error("a TLS client got no hint in the log")
	}
}

func TestSilentClientIsClosed(t *testing.T) {
	t.Parallel()
	_, at := startServer(t, Config{SOCKS: named("socks"), HTTP: named("http"), HandshakeTimeout: 50 * time.Millisecond})
	c := loopback.Dial(t, at)
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("a silent client saw %v, want the end", err)
	}
}

func TestPanicClosesOneClientOnly(t *testing.T) {
	t.Parallel()
	var log loopback.Log
	_, at := startServer(t, Config{
		SOCKS: handlerFunc(func(context.Context, *Conn) { panic("boom") }), HTTP: named("http"), Logger: log.Logger(),
	})
	c := loopback.Dial(t, at)
	say(t, c, "\x05")
	if _, err := io.ReadAll(c); err != nil && !loopback.IsReset(err) {
		t.Error(err)
	}
	c = loopback.Dial(t, at)
	say(t, c, "GET")
	if got, err := io.ReadAll(c); err != nil || string(got) != "http:GET" {
		t.Errorf("after a panic: %q, %v", got, err)
	}
	if log.Count(`"cause":"boom"`) != 1 || log.Count("server_test.go") == 0 {
		t.Error("the panic was not logged with its stack")
	}
}

func TestListenRefusesAUsedAddress(t *testing.T) {
	t.Parallel()
	s, at := startServer(t, Config{SOCKS: named("socks"), HTTP: named("http")})
	_, err := s.Listen(t.Context(), HTTP, at, dispatcher.Profile{})
	if err == nil || !strings.Contains(err.Error(), at.String()) {
		t.Errorf("got %v", err)
	}
}

// Requests carry their listener's profile, all of them the same one, with the bound address for a name if it has none.
func TestRequestsHaveTheListenersProfile(t *testing.T) {
	t.Parallel()
	got := make(chan *dispatcher.Profile)
	handler := handlerFunc(func(_ context.Context, c *Conn) {
		got <- c.Request("test").Profile
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	s := New(Config{SOCKS: handler, HTTP: handler})
	t.Cleanup(func() { s.Close() })
	any4 := netip.MustParseAddrPort("127.0.0.1:0")
	nameless, err := s.Listen(t.Context(), HTTP, any4, dispatcher.Profile{Lines: []string{"eth0"}})
	if err != nil {
		t.Fatal(err)
	}
	office, err := s.Listen(t.Context(), SOCKS, any4, dispatcher.Profile{Name: "office"})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	for _, c := range []struct {
		at   netip.AddrPort
		want dispatcher.Profile
	}{
		{nameless, dispatcher.Profile{Name: "http " + nameless.String(), Lines: []string{"eth0"}}},
		{office, dispatcher.Profile{Name: "office"}},
	} {
		var profiles [2]*dispatcher.Profile
		for n := range profiles {
			say(t, loopback.Dial(t, c.at), "\x05")
			profiles[n] = <-got
		}
		if profiles[0] != profiles[1] || !reflect.DeepEqual(*profiles[0], c.want) {
			t.Errorf("profiles %+v and %+v, want one with %+v", profiles[0], profiles[1], c.want)
		}
	}
}

// hold serves until it is told to go on, or the server is closed by force.
func hold(release <-chan struct{}) Handler {
	return handlerFunc(func(ctx context.Context, c *Conn) {
		select {
		case <-release:
		case <-ctx.Done():
		}
		_, err := c.Write([]byte("done"))
		if closeErr := c.Close(); err == nil && closeErr != nil {
			panic(closeErr)
		}
	})
}

func TestShutdownLetsSessionsFinish(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s, at := startServer(t, Config{SOCKS: hold(release), HTTP: named("http")})
	busy, idle := loopback.Dial(t, at), loopback.Dial(t, at)
	say(t, busy, "\x05")
	waitBusy(t, s, 1, 2)
	done := make(chan int, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		done <- s.Shutdown(ctx)
	}()
	if _, err := io.ReadAll(idle); err != nil { // at once: it is what the session below waits for
		t.Errorf("the idle client saw %v", err)
	}
	if c, err := new(net.Dialer).DialTCP(t.Context(), "tcp", netip.AddrPort{}, at); err == nil {
		t.Error("a client was accepted during shutdown")
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	close(release)
	if got, err := io.ReadAll(busy); err != nil || string(got) != "done" {
		t.Errorf("the session got %q, %v", got, err)
	}
	if cut := <-done; cut != 0 {
		t.Errorf("%d connections were cut", cut)
	}
}

func TestShutdownCutsWithAReset(t *testing.T) {
	t.Parallel()
	s, at := startServer(t, Config{SOCKS: hold(nil), HTTP: named("http")})
	c := loopback.Dial(t, at)
	say(t, c, "\x05")
	waitBusy(t, s, 1, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if cut := s.Shutdown(ctx); cut != 1 {
		t.Errorf("%d connections were cut, want 1", cut)
	}
	if got, err := io.ReadAll(c); !loopback.IsReset(err) {
		t.Errorf("the client saw %q, %v; want a reset", got, err)
	}
}

func TestConnThatBecomesIdleDuringShutdownIsClosed(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s, at := startServer(t, Config{HTTP: named("http"), SOCKS: handlerFunc(func(_ context.Context, c *Conn) {
		<-release
		c.Idle(true) // as between two requests of a kept-alive connection; closes it
	})})
	c := loopback.Dial(t, at)
	say(t, c, "\x05")
	waitBusy(t, s, 1, 1)
	done := make(chan int, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	waitEnding(t, s)
	close(release)
	if cut := <-done; cut != 0 {
		t.Errorf("%d connections were cut", cut)
	}
	if _, err := io.ReadAll(c); err != nil && !loopback.IsReset(err) {
		t.Error(err)
	}
}

// waitBusy waits until so many connections are served, of so many known ones.
func waitBusy(t *testing.T, s *Server, busy, all int) {
	t.Helper()
	loopback.Eventually(t, "connections to be served", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		n := 0
		for c := range s.conns {
			if !c.idle {
				n++
			}
		}
		return n == busy && len(s.conns) == all
	})
}

func waitEnding(t *testing.T, s *Server) {
	t.Helper()
	loopback.Eventually(t, "the end to begin", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.ending
	})
}

func TestStrangersAreBounded(t *testing.T) {
	t.Parallel()
	var s strangers
	for n := range 3 * maxStrangers {
		a := netip.AddrFrom4([4]byte{203, 0, byte(n >> 8), byte(n)})
		if !s.first(a, "l") {
			t.Fatalf("%s was known", a)
		}
		if s.first(a, "l") {
			t.Fatalf("%s was forgotten at once", a)
		}
	}
	if len(s.seen) > maxStrangers {
		t.Errorf("%d are remembered", len(s.seen))
	}
}

func FuzzProtocolOf(f *testing.F) {
	for _, b := range []byte{4, 5, 'G', 0x16, 0, 0xff} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, first byte) {
		if kind, problem := protocolOf(first); (kind == "") != (problem != "") {
			t.Errorf("%#x: kind %q and problem %q", first, kind, problem)
		}
	})
}
