package socks

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dispatch/dispatcher"
	"dispatch/listeners"
	"dispatch/testdata/loopback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo sends back all it got, once the client has ended its side.
func echo(c *net.TCPConn) error {
	all, err := io.ReadAll(c)
	if err != nil {
		return err
	}
	_, err = c.Write(all)
	return err
}

// wait waits until there are so many records with text.
func wait(t *testing.T, log *loopback.Log, n int, text string) {
	t.Helper()
	loopback.Eventually(t, fmt.Sprintf("%d records with %s", n, text), func() bool { return log.Count(text) == n })
}

// gateway is a real dispatcher on loopback, where all destinations are direct.
func gateway(t testing.TB, log *slog.Logger) *dispatcher.Dispatcher {
	t.Helper()
	lookup := dispatcher.ResolverFunc(func(_ context.Context, host string) ([]netip.Addr, error) {
		if host == "server.test" {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
		return nil, nil
	})
	return dispatcher.New(dispatcher.Config{Fleet: loopback.Fleet(t), Resolver: lookup, Logger: log})
}

func serveSOCKS(t testing.TB, d Dialer) netip.AddrPort {
	t.Helper()
	_, at := startSOCKS(t, d)
	return at
}

func startSOCKS(t testing.TB, d Dialer) (*listeners.Server, netip.AddrPort) {
	t.Helper()
	h := New(d, nil)
	s := listeners.New(listeners.Config{SOCKS: h, HTTP: h, HandshakeTimeout: 5 * time.Second})
	at, err := s.Listen(t.Context(), listeners.SOCKS, netip.MustParseAddrPort("127.0.0.1:0"), dispatcher.Profile{})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Close() })
	return s, at
}

func send(t *testing.T, c *net.TCPConn, p []byte) {
	t.Helper()
	if _, err := c.Write(p); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, c *net.TCPConn, n int) []byte {
	t.Helper()
	buf := make([]byte, n)
	if got, err := io.ReadFull(c, buf); err != nil {
		t.Fatalf("read %d of %d bytes: % x, %v", got, n, buf[:got], err)
	}
	return buf
}

func port(p uint16) []byte { return []byte{byte(p >> 8), byte(p)} }

// ask5 is a CONNECT to a literal or name, behind a greeting without credentials.
func ask5(command byte, host string, p uint16) []byte {
	out := []byte{5, 1, 0, 5, command, 0}
	if a, err := netip.ParseAddr(host); err == nil && a.Is4() {
		out = append(append(out, 1), a.AsSlice()...)
	} else if err == nil {
		out = append(append(out, 4), a.AsSlice()...)
	} else {
		out = append(append(out, 3, byte(len(host))), host...)
	}
	return append(out, port(p)...)
}

func ask4(host string, p uint16, user string) []byte {
	out := append([]byte{4, 1}, port(p)...)
	if a, err := netip.ParseAddr(host); err == nil {
		return append(append(append(out, a.AsSlice()...), user...), 0)
	}
	out = append(append(append(out, 0, 0, 0, 9), user...), 0)
	return append(append(out, host...), 0)
}

func TestConnectEchoesAndHalfCloses(t *testing.T) {
	t.Parallel()
	server := loopback.Serve(t, echo)
	var log loopback.Log
	at := serveSOCKS(t, gateway(t, log.Logger()))
	for name, c := range map[string]struct {
		request []byte
		reply   int // bytes
		ok      byte
	}{
		"socks5 address":             {ask5(1, "127.0.0.1", server.Port()), 12, 0},
		"socks5 name":                {ask5(1, "server.test", server.Port()), 12, 0},
		"socks5 literal as a name":   {append(append([]byte{5, 1, 0, 5, 1, 0, 3, 9}, "127.0.0.1"...), port(server.Port())...), 12, 0},
		"socks5 bracketed mapped v6": {append(append([]byte{5, 1, 0, 5, 1, 0, 3, 18}, "[::ffff:127.0.0.1]"...), port(server.Port())...), 12, 0},
		"socks4":                     {ask4("127.0.0.1", server.Port(), "eve"), 8, 90},
		"socks4a":                    {ask4("server.test", server.Port(), "eve"), 8, 90},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := loopback.Dial(t, at)
			// The payload comes along with the request, and more of it later.
			send(t, client, append(c.request, "early "...))
			reply := read(t, client, c.reply)
			if code := reply[len(reply)-c.reply+1]; c.reply == 8 && code != c.ok {
				t.Fatalf("reply % x", reply)
			}
			if c.reply == 12 && (!bytes.Equal(reply[:6], []byte{5, 0, 5, 0, 0, 1}) || !bytes.Equal(reply[6:10], []byte{127, 0, 0, 1})) {
				t.Fatalf("reply % x", reply)
			}
			send(t, client, []byte("late"))
			if err := client.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if all, err := io.ReadAll(client); err != nil || string(all) != "early late" {
				t.Errorf("echo %q, %v", all, err)
			}
		})
	}
	t.Cleanup(func() {
		// One record a session, with its bytes; the user of SOCKS4 is in it. The client sees the end first.
		wait(t, &log, 6, `"up":10,"down":10`)
		wait(t, &log, 2, `"user":"eve"`)
	})
}

func TestUserNameIsRecordedAndNoPasswordAsked(t *testing.T) {
	t.Parallel()
	server := loopback.Serve(t, echo)
	var log loopback.Log
	at := serveSOCKS(t, gateway(t, log.Logger()))
	c := loopback.Dial(t, at)
	send(t, c, []byte{5, 1, 2}) // only user and password on offer
	if got := read(t, c, 2); !bytes.Equal(got, []byte{5, 2}) {
		t.Fatalf("method % x", got)
	}
	send(t, c, append([]byte{1, 3}, "eve\x06secret"...))
	if got := read(t, c, 2); !bytes.Equal(got, []byte{1, 0}) {
		t.Fatalf("status % x", got)
	}
	send(t, c, ask5(1, "127.0.0.1", server.Port())[3:])
	read(t, c, 10)
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	wait(t, &log, 1, `"user":"eve"`)
	if strings.Contains(log.String(), "secret") {
		t.Error("the password is in the log")
	}
}

func TestServerMaySpeakFirstAndEndFirst(t *testing.T) {
	t.Parallel()
	got := make(chan string, 2)
	server := loopback.Serve(t, func(c *net.TCPConn) error {
		if _, err := c.Write([]byte("banner")); err != nil {
			return err
		}
		if err := c.CloseWrite(); err != nil {
			return err
		}
		all, err := io.ReadAll(c)
		got <- string(all)
		return err
	})
	at := serveSOCKS(t, gateway(t, nil))
	for _, c := range []struct {
		request []byte
		reply   int
	}{{ask5(1, "127.0.0.1", server.Port()), 12}, {ask4("127.0.0.1", server.Port(), ""), 8}} {
		client := loopback.Dial(t, at)
		send(t, client, c.request)
		read(t, client, c.reply)
		if all, err := io.ReadAll(client); err != nil || string(all) != "banner" {
			t.Fatalf("the client got %q, %v", all, err)
		}
		send(t, client, []byte("after the server's end"))
		if err := client.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if s := <-got; s != "after the server's end" {
			t.Errorf("the server got %q", s)
		}
	}
}

func TestResetIsPassedOn(t *testing.T) {
	t.Parallel()
	server := loopback.Serve(t, func(c *net.TCPConn) error {
		if _, err := c.Write([]byte("half of it")); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil { // until the client has read
			return err
		}
		return c.SetLinger(0)
	})
	at := serveSOCKS(t, gateway(t, nil))
	client := loopback.Dial(t, at)
	send(t, client, ask5(1, "127.0.0.1", server.Port()))
	read(t, client, 12+10)
	send(t, client, []byte{1})
	if all, err := io.ReadAll(client); !loopback.IsReset(err) {
		t.Errorf("a broken download looks whole: %q, %v", all, err)
	}
}

// failing is a Dialer whose every request fails in one way.
type failing dispatcher.Class

func (f failing) Dial(_ context.Context, req dispatcher.Request) (*dispatcher.Conn, error) {
	// The text is a trap: the library guesses codes from it.
	return nil, &dispatcher.Error{Class: dispatcher.Class(f), Host: req.Host, Err: errors.New("refused, network is unreachable")}
}

func TestFailuresGetTheirCode(t *testing.T) {
	t.Parallel()
	for class, code := range map[dispatcher.Class]byte{
		dispatcher.Refused: 5, dispatcher.NetworkUnreachable: 3, dispatcher.NoUplink: 3, dispatcher.HostUnreachable: 4,
		dispatcher.UnknownHost: 4, dispatcher.TimedOut: 6, dispatcher.ResolveTimedOut: 6, dispatcher.NotAllowed: 2,
		dispatcher.ResolveFailed: 1, dispatcher.InvalidRequest: 1, dispatcher.Exhausted: 1, dispatcher.ConnectFailed: 1,
	} {
		at := serveSOCKS(t, failing(class))
		c := loopback.Dial(t, at)
		send(t, c, ask5(1, "192.0.2.1", 80))
		if all, err := io.ReadAll(c); err != nil || !bytes.Equal(all, []byte{5, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0}) {
			t.Errorf("SOCKS5 %s: % x, %v; want code %d", class, all, err, code)
		}
		c = loopback.Dial(t, at)
		send(t, c, ask4("192.0.2.1", 80, "u"))
		if all, err := io.ReadAll(c); err != nil || !bytes.Equal(all, []byte{0, 91, 0, 0, 0, 0, 0, 0}) {
			t.Errorf("SOCKS4 %s: % x, %v", class, all, err)
		}
	}
}

func TestWhatIsNotServed(t *testing.T) {
	t.Parallel()
	at := serveSOCKS(t, gateway(t, nil))
	for name, c := range map[string]struct{ request, want string }{
		"BIND":              {hex.EncodeToString(ask5(2, "192.0.2.1", 80)), "0500" + "05070001000000000000"},
		"BIND to a name":    {hex.EncodeToString(ask5(2, "nowhere.test", 80)), "0500" + "05070001000000000000"},
		"UDP":               {hex.EncodeToString(ask5(3, "0.0.0.0", 0)), "0500" + "05070001000000000000"},
		"unknown command":   {hex.EncodeToString(ask5(9, "192.0.2.1", 80)), "0500" + "05070001000000000000"},
		"address type":      {"050100" + "05010009", "0500" + "05080001000000000000"},
		"no method":         {"050101", "05ff"},
		"empty name":        {hex.EncodeToString(ask5(1, "", 80)), "0500" + "05010001000000000000"},
		"NUL in the name":   {hex.EncodeToString(ask5(1, "a\x00b", 80)), "0500" + "05010001000000000000"},
		"port 0":            {hex.EncodeToString(ask5(1, "192.0.2.1", 0)), "0500" + "05010001000000000000"},
		"unknown name":      {hex.EncodeToString(ask5(1, "nowhere.test", 80)), "0500" + "05040001000000000000"},
		"unspecified":       {hex.EncodeToString(ask5(1, "0.0.0.0", 80)), "0500" + "05020001000000000000"},
		"SOCKS4 BIND":       {"0402" + "0050" + "c0000201" + "00", "005b000000000000"},
		"SOCKS4 long user":  {"0401" + "0050" + "c0000201" + strings.Repeat("61", 300), "005b000000000000"},
		"SOCKS4a no name":   {"0401" + "0050" + "00000001" + "00" + "00", "005b000000000000"},
		"SOCKS4 to 0.0.0.0": {"0401" + "0050" + "00000000" + "00", "005b000000000000"},
	} {
		request, err := hex.DecodeString(c.request)
		if err != nil {
			t.Fatal(err)
		}
		client := loopback.Dial(t, at)
		send(t, client, request)
		// What the server had not read may make the end a reset, behind the answer.
		got, err := io.ReadAll(client)
		if hex.EncodeToString(got) != c.want || err != nil && !loopback.IsReset(err) {
			t.Errorf("%s: answered %x, %v; want %s", name, got, err, c.want)
		}
	}
}

func TestRefusedPort(t *testing.T) {
	t.Parallel()
	client := loopback.Dial(t, serveSOCKS(t, gateway(t, nil)))
	send(t, client, ask5(1, "127.0.0.1", loopback.Refusing(t).Port()))
	if got := read(t, client, 12); got[3] != 5 {
		t.Errorf("answered % x", got)
	}
}

// A refused client gets its answer and a clean end, though it has sent ahead what nobody reads: a reset could overtake
// the answer.
func TestRefusalIsNoReset(t *testing.T) {
	t.Parallel()
	at := serveSOCKS(t, gateway(t, nil))
	for _, request := range [][]byte{ask5(1, "unknown.test", 80), ask5(9, "127.0.0.1", 80), ask4("unknown.test", 80, "")} {
		client := loopback.Dial(t, at)
		send(t, client, append(request, make([]byte, 256<<10)...))
		if err := client.CloseWrite(); err != nil {
			t.Error(err)
		}
		time.Sleep(50 * time.Millisecond)
		if answer, err := io.ReadAll(client); err != nil || len(answer) < 8 {
			t.Errorf("got % x, %v", answer, err)
		}
	}
}

// A client may take its time between the bytes of a handshake, but not for ever.
func TestHandshakeInPiecesAndItsTimeout(t *testing.T) {
	t.Parallel()
	server := loopback.Serve(t, echo)
	at := serveSOCKS(t, gateway(t, nil))
	client := loopback.Dial(t, at)
	for _, b := range ask5(1, "server.test", server.Port()) {
		send(t, client, []byte{b})
	}
	read(t, client, 12)
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(client); err != nil {
		t.Fatal(err)
	}

	h := New(gateway(t, nil), nil)
	s := listeners.New(listeners.Config{SOCKS: h, HTTP: h, HandshakeTimeout: 50 * time.Millisecond})
	hasty, err := s.Listen(t.Context(), listeners.SOCKS, netip.MustParseAddrPort("127.0.0.1:0"), dispatcher.Profile{})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer s.Close()
	for _, start := range [][]byte{{5, 1}, {4, 1, 0}} {
		client = loopback.Dial(t, hasty)
		send(t, client, start)
		if _, err := io.ReadAll(client); err != nil {
			t.Errorf("a slow handshake ended with %v", err)
		}
	}
	// Once the request is read there is no deadline any more.
	client = loopback.Dial(t, hasty)
	send(t, client, ask5(1, "127.0.0.1", server.Port()))
	read(t, client, 12)
	time.Sleep(100 * time.Millisecond)
	send(t, client, []byte("still there"))
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(client); err != nil || string(all) != "still there" {
		t.Errorf("after the handshake's time: %q, %v", all, err)
	}
}
