package httpproxy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dispatch/dispatcher"
	"dispatch/testdata/loopback"
)

const established = "HTTP/1.1 200 Connection established\r\n\r\n"

func connectTo(host string) string {
	return "CONNECT " + host + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
}

// echo sends back what it reads, and its end.
func echo(p *peer) {
	_, err := io.Copy(p.TCPConn, p.br)
	p.must(err)
}

// tunnel opens one through the gateway.
func (f *fixture) tunnel(o originServer) *peer {
	f.t.Helper()
	client := f.client()
	client.send(connectTo(o.host()))
	client.expect(established)
	return client
}

func TestConnect(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	o := newOrigin(t, echo)
	client := f.tunnel(o)
	client.send("ping")
	client.expect("ping")
	client.must(client.CloseWrite())
	if rest := client.whole(); rest != "" {
		t.Errorf("then came %q", rest)
	}
	r := f.session()
	for name, want := range map[string]any{
		"protocol": "connect", "host": "origin", "destination": "127.0.0.1:" + o.port, "uplink": "direct",
		"up": int64(4), "down": int64(4), "class": "", "attempts": int64(1), "listener": "http " + f.at.String(),
	} {
		if got := r.attrs[name].Any(); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

func TestConnectEchoesTheVersion(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	o := newOrigin(t, echo)
	client := f.client()
	client.send("CONNECT " + o.host() + " HTTP/1.0\r\n\r\n")
	client.expect("HTTP/1.0 200 Connection established\r\n\r\n")
	client.send("x")
	client.expect("x")
}

// What a client sends behind its CONNECT arrives, however much of it net/http has read.
func TestConnectEarlyBytes(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	o := newOrigin(t, echo)
	for _, size := range []int{1, 300, 512, 4096, 5000, 300_000} {
		client := f.client()
		early := make([]byte, size)
		if _, err := rand.Read(early); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := client.Write(append([]byte(connectTo(o.host())), early...))
			client.must(err)
			client.must(client.CloseWrite())
		}()
		client.expect(established)
		if got := client.whole(); got != string(early) {
			t.Errorf("%d bytes came back as %d", size, len(got))
		}
	}
}

// The origin may speak first, and to the end of what it says a client that is silent hears it.
func TestConnectHalfClosedByTheOrigin(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	got := make(chan string, 1)
	o := newOrigin(t, func(p *peer) {
		p.send("hello")
		p.must(p.CloseWrite())
		got <- p.whole()
	})
	client := f.tunnel(o)
	if all := client.whole(); all != "hello" {
		t.Errorf("read %q", all)
	}
	client.send("bye")
	client.must(client.CloseWrite())
	if all := <-got; all != "bye" {
		t.Errorf("the origin read %q", all)
	}
	if class := f.session().class(); class != "" {
		t.Errorf("the record says %q", class)
	}
}

func TestConnectPassesResetsOn(t *testing.T) {
	t.Parallel()
	t.Run("of the origin", func(t *testing.T) {
		t.Parallel()
		f := start(t, fixtureConfig{})
		o := newOrigin(t, func(p *peer) {
			p.expect("x")
			p.reset()
		})
		client := f.tunnel(o)
		client.send("x")
		_, err := client.rest()
		wantReset(t, err)
		if class := f.session().class(); class != dispatcher.DestinationBroken {
			t.Errorf("the record says %q", class)
		}
	})
	t.Run("of the client", func(t *testing.T) {
		t.Parallel()
		f := start(t, fixtureConfig{})
		ended := make(chan error, 1)
		o := newOrigin(t, func(p *peer) {
			p.expect("x")
			p.send("y")
			_, err := p.rest()
			ended <- err
		})
		client := f.tunnel(o)
		client.send("x")
		client.expect("y")
		client.reset()
		wantReset(t, <-ended)
		if class := f.session().class(); class != dispatcher.ClientBroken {
			t.Errorf("the record says %q", class)
		}
	})
}

// A tunnel outlives the handshake's deadlines.
func TestConnectHasNoDeadline(t *testing.T) {
	t.Parallel()
	const handshake = 150 * time.Millisecond
	f := start(t, fixtureConfig{handshake: handshake})
	o := newOrigin(t, echo)
	client := f.tunnel(o)
	time.Sleep(2 * handshake)
	client.send("x")
	client.expect("x")
}

func TestConnectRefuses(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	for _, c := range []struct {
		target string
		says   string
	}{
		{"origin", "needs a port"},
		{"origin:", "needs a port"},
		{"origin:0", "65535"},
		{"origin:65536", "65535"},
		{":443", "names no host"},
		{"[::1]", "needs a port"},
		{"user:secret@origin:443", "user name"},
		{"origin:443/path", "only"},
		{"origin:443?query", "only"},
		{"a'b:443", "neither"},
		{"http://origin:80/", "400"},
		{"/path", "names no host"},
		{"[::1%lo]:443", "400"}, // net/http's own page, as the next ones
		{"origin:http", "400"},  // no number
		{"[127.0.0.1]:443", "400"},
		{"::1:443", "400"},
		{"*", "400"},
	} {
		client := f.client()
		client.send("CONNECT " + c.target + " HTTP/1.1\r\nHost: x\r\n\r\nearly bytes")
		resp, body := client.response("CONNECT")
		if resp.StatusCode != 400 || !strings.Contains(body, c.says) || !resp.Close {
			t.Errorf("%s: %s %v %q, want %q", c.target, resp.Status, resp.Header, body, c.says)
		}
		if rest := client.whole(); rest != "" {
			t.Errorf("%s: then came %q", c.target, rest)
		}
	}
	f.sessions(0)
}

// Each failure has its status and its page, for CONNECT and for plain requests, and the page is for strangers' eyes.
func TestFailures(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{resolver: dispatcher.ResolverFunc(
		func(_ context.Context, host string) ([]netip.Addr, error) {
			switch host {
			case "here":
				return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
			case "far":
				return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
			case "broken":
				return nil, errors.New("read udp 10.1.2.3:53: secret")
			case "mute":
				return nil, fmt.Errorf("read udp 10.1.2.3:53: %w", context.DeadlineExceeded)
			}
			return nil, nil
		})})
	for _, c := range []struct {
		host   string
		status int
		says   string
		class  dispatcher.Class
	}{
		{fmt.Sprint("here:", loopback.Refusing(t).Port()), 502, "could not connect to here: it refused the connection", dispatcher.Refused},
		{"nobody:80", 502, "could not look up nobody: no such host", dispatcher.UnknownHost},
		{"broken:80", 502, "could not look up broken", dispatcher.ResolveFailed},
		{"mute:80", 504, "could not look up mute: the look-up was not answered in time", dispatcher.ResolveTimedOut},
		{"far:80", 502, "could not choose a line to far: no uplink", dispatcher.NoUplink},
		{f.at.String(), 403, "could not choose a line to 127.0.0.1: the gateway makes no connections to itself", dispatcher.NotAllowed},
		{fmt.Sprintf("here:%d", f.at.Port()), 403, "the gateway makes no connections to itself", dispatcher.NotAllowed},
		{fmt.Sprintf("[::ffff:127.0.0.1]:%d", f.at.Port()), 403, "the gateway makes no connections to itself", dispatcher.NotAllowed},
		{strings.Repeat("long.", 60) + ":80", 400, "could not understand the request", dispatcher.InvalidRequest},
		{"[::1%25lo]:80", 400, "zone, which belongs to link-local addresses only", dispatcher.InvalidRequest},
	} {
		for _, request := range []string{connectTo(c.host), "GET http://" + c.host + "/ HTTP/1.1\r\nHost: x\r\n\r\n"} {
			before := len(f.records.with("session closed"))
			client := f.client()
			client.send(request)
			resp, body := client.response("GET")
			if resp.StatusCode != c.status || !strings.Contains(body, c.says) {
				t.Errorf("%.40q: %s %q, want %d %q", request, resp.Status, body, c.status, c.says)
			}
			if !resp.Close || resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" || resp.ContentLength != int64(len(body)) {
				t.Errorf("%.40q: %v", request, resp.Header)
			}
			for _, private := range []string{"10.1.2.3", "secret", "192.0.2.1", "198.51.100", "nowhere"} {
				if strings.Contains(body, private) {
					t.Errorf("%.40q: the page tells %s: %q", request, private, body)
				}
			}
			if r := f.sessions(before + 1)[before]; r.class() != c.class {
				t.Errorf("%.40q: the record says %q, want %q", request, r.class(), c.class)
			}
		}
	}
}

// Every class of failure has a status that the issue names.
func TestOutcomeOf(t *testing.T) {
	t.Parallel()
	want := map[dispatcher.Class]int{
		dispatcher.InvalidRequest: 400, dispatcher.ClientBroken: 400, dispatcher.NotAllowed: 403,
		dispatcher.ResolveTimedOut: 504, dispatcher.TimedOut: 504, dispatcher.Exhausted: 503, dispatcher.Closed: 503, dispatcher.Canceled: 503,
		dispatcher.UnknownHost: 502, dispatcher.ResolveFailed: 502, dispatcher.NoUplink: 502, dispatcher.Refused: 502,
		dispatcher.NetworkUnreachable: 502, dispatcher.HostUnreachable: 502, dispatcher.ConnectFailed: 502, dispatcher.DestinationBroken: 502,
		dispatcher.Class("a new one"): 502,
	}
	for class, status := range want {
		if got, text := replyTo(class); got != status || text == "" {
			t.Errorf("%s: %d %q, want %d", class, got, text, status)
		}
	}
	for _, step := range []dispatcher.Step{dispatcher.StepCheck, dispatcher.StepResolve, dispatcher.StepChoose, dispatcher.StepConnect, dispatcher.StepAnswer} {
		if doing(step) == doing("") {
			t.Errorf("%s has no name", step)
		}
	}
}

// A client that leaves while its destination is being looked up ends that: at once when it breaks off, and after a
// moment when it only says that it has nothing more to send.
func TestConnectClientLeavesDuringTheDial(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		leave func(*peer)
	}{
		{"reset", (*peer).reset},
		{"close", (*peer).end},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			asked, ended := make(chan struct{}), make(chan error, 1)
			f := start(t, fixtureConfig{resolver: dispatcher.ResolverFunc(
				func(ctx context.Context, _ string) ([]netip.Addr, error) {
					close(asked)
					<-ctx.Done()
					ended <- ctx.Err()
					return nil, ctx.Err()
				})})
			client := f.client()
			client.send(connectTo("origin:80"))
			<-asked
			c.leave(client)
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the look-up ended with %v", err)
			}
			if class := f.session().class(); class != dispatcher.Canceled {
				t.Errorf("the record says %q", class)
			}
		})
	}
}

// A client that has sent something ahead and its FIN waits for an answer to that, and gets it: nobody has left.
func TestConnectHalfClosedBehindEarlyData(t *testing.T) {
	t.Parallel()
	for name, parts := range map[string][]string{
		"at once":         {"CONNECT origin:%s HTTP/1.1\r\n\r\nGET / HTTP/1.0\r\n\r\n"},
		"later":           {"CONNECT origin:%s HTTP/1.1\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"},
		"a head in parts": {"CONNECT origin:%s HTTP/1.1\r\nX: y\r", "\n\r\nGET / HTTP/1.0\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ask, found := make(chan struct{}, 1), make(chan struct{})
			f := start(t, fixtureConfig{resolver: dispatcher.ResolverFunc(
				func(ctx context.Context, _ string) ([]netip.Addr, error) {
					ask <- struct{}{}
					select {
					case <-found:
						return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				})})
			o := newOrigin(t, func(p *peer) { p.send(p.whole()) })
			client := f.client()
			for n, part := range parts {
				if n > 0 {
					time.Sleep(5 * time.Millisecond) // so that it is read apart
				}
				client.send(strings.ReplaceAll(part, "%s", o.port))
			}
			client.must(client.CloseWrite())
			<-ask
			time.Sleep(1600 * time.Millisecond) // a FIN alone would have ended the dial
			close(found)
			if got := client.whole(); got != "HTTP/1.1 200 Connection established\r\n\r\nGET / HTTP/1.0\r\n\r\n" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// goproxy takes a dialer for CONNECT from the environment; it must not be used. (No Parallel: Setenv.)
func TestConnectIgnoresTheEnvironment(t *testing.T) {
	trap := newOrigin(t, func(p *peer) { t.Errorf("the environment's proxy was used: %q", p.head()) })
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"} {
		t.Setenv(name, "http://127.0.0.1:"+trap.port)
	}
	f := start(t, fixtureConfig{})
	o := newOrigin(t, hello(t))
	client := f.tunnel(o)
	client.send("GET / HTTP/1.1\r\n\r\n")
	client.response("GET")
	client = f.client()
	client.send(get(o))
	client.response("GET")
	f.eventually("plain request's record", func() bool { return len(f.records.with("session closed")) == 1 })
}

// A panic while a request is served ends that client only.
func TestPanicEndsOneClientOnly(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{resolver: dispatcher.ResolverFunc(func(_ context.Context, host string) ([]netip.Addr, error) {
		if host == "panic" {
			panic("out of order")
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	})})
	o := newOrigin(t, hello(t))
	for _, request := range []string{connectTo("panic:80"), "GET http://panic/ HTTP/1.1\r\nHost: x\r\n\r\n"} {
		client := f.client()
		client.send(request)
		_, err := client.rest()
		wantReset(t, err)
	}
	if got := f.records.with("serving an HTTP client panicked"); len(got) != 2 || got[0].attrs["cause"].String() != "out of order" {
		t.Errorf("logged %v", got)
	}
	client := f.client()
	client.send(get(o))
	client.response("GET")
}

// Connections that have ended leave nothing behind.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	o := newOrigin(t, echo)
	for range 50 {
		client := f.tunnel(o)
		client.send("x")
		client.expect("x")
		client.end()
	}
	f.sessions(50)
	f.eventually("no client is left", func() bool { return f.clients() == 0 })
}
