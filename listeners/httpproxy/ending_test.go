package httpproxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"dispatch/dispatcher"
	"dispatch/testdata/loopback"
)

// A response that breaks off never looks whole, whatever its framing, and however it breaks off.
func TestBrokenResponsesLookBroken(t *testing.T) {
	t.Parallel()
	framings := map[string]string{
		"length":  "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
		"to end":  "HTTP/1.0 200 OK\r\n\r\n",
	}
	for framing, head := range framings {
		for _, version := range []string{"1.1", "1.0"} {
			for _, end := range []string{"fin", "reset", "fin at once", "reset at once"} {
				if framing == "to end" && strings.HasPrefix(end, "fin") {
					continue // this is how it ends
				}
				t.Run(strings.Join([]string{framing, version, end}, " "), func(t *testing.T) {
					t.Parallel()
					f := start(t, fixtureConfig{})
					read := make(chan struct{})
					o := newOrigin(t, func(p *peer) {
						p.head()
						p.send(head)
						p.send("hello")
						if !strings.HasSuffix(end, "at once") {
							<-read
						}
						if strings.HasPrefix(end, "reset") {
							p.reset()
						}
					})
					client := f.client()
					client.send("GET " + o.url() + "/ HTTP/" + version + "\r\nHost: x\r\n\r\n")
					if strings.HasSuffix(end, "at once") {
						_, err := client.rest()
						wantReset(t, err)
					} else {
						client.head()
						if version == "1.1" && framing != "length" {
							client.expect("5\r\n")
						}
						client.expect("hello")
						close(read)
						rest, err := client.rest()
						wantReset(t, err)
						if strings.TrimSpace(rest) != "" {
							t.Errorf("then came %q", rest)
						}
					}
					if class := f.session().class(); class != dispatcher.DestinationBroken {
						t.Errorf("the record says %q", class)
					}
				})
			}
		}
	}
}

// A reset that the sending of the request's body is told of, and no reader any more, is no end of a response either.
func TestResetToldToTheSenderLooksBroken(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	reset := make(chan struct{})
	o := newOrigin(t, func(p *peer) {
		p.head()
		p.send("HTTP/1.0 200 OK\r\n\r\n")
		// More than fits in on the way to a client that does not read: the gateway cannot be reading when the reset comes.
		p.must(p.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)))
		_, _ = p.Write(make([]byte, 64<<20))
		p.reset()
		close(reset)
	})
	client := f.client()
	client.send("POST " + o.url() + "/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nbegin")
	<-reset
	for range 3 {
		client.send("more")
		time.Sleep(20 * time.Millisecond)
	}
	_, err := client.rest()
	wantReset(t, err)
	if class := f.session().class(); class != dispatcher.DestinationBroken {
		t.Errorf("the record says %q", class)
	}
}

// Malformed chunks and trailers are no clean ends either.
func TestMalformedResponseBodiesLookBroken(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"5\r\nhello\r\nmiracle\r\n", "5\r\nhello\r\n0\r\nno trailer\r\n\r\n", "5\r\nhelloX\r\n0\r\n\r\n"} {
		f := start(t, fixtureConfig{})
		o := newOrigin(t, func(p *peer) {
			p.head()
			p.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
			_, _ = p.rest()
		})
		client := f.client()
		client.send(get(o))
		_, err := client.rest()
		wantReset(t, err)
		if class := f.session().class(); class != dispatcher.DestinationBroken {
			t.Errorf("%q: the record says %q", body, class)
		}
	}
}

// An origin that says no word of HTTP is answered for.
func TestNoResponse(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(*peer){
		"fin":         func(*peer) {},
		"reset":       (*peer).reset,
		"garbage":     func(p *peer) { p.send("220 mail.example ESMTP\r\n\r\n") },
		"half a head": func(p *peer) { p.send("HTTP/1.1 200 OK\r\nContent-") },
		"no status":   func(p *peer) { p.send("HTTP/1.1 099 What\r\n\r\n") },
		"too long a head": func(p *peer) {
			_, _ = io.WriteString(p.TCPConn, "HTTP/1.1 200 OK\r\n"+strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", 1100)+"\r\n")
		},
		"unasked switch":  func(p *peer) { p.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n") },
		"lengths differ":  func(p *peer) { p.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab") },
		"strange framing": func(p *peer) { p.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: miracle\r\n\r\nab") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, fixtureConfig{})
			o := newOrigin(t, func(p *peer) {
				p.head()
				answer(p)
			})
			client := f.client()
			client.send("POST " + o.url() + "/ HTTP/1.1\r\nHost: x\r\n\r\n")
			resp, body := client.response("POST")
			if resp.StatusCode != 502 || !strings.Contains(body, "could not get an answer from origin: it broke off") {
				t.Errorf("%s %q", resp.Status, body)
			}
			if class := f.session().class(); class != dispatcher.DestinationBroken {
				t.Errorf("the record says %q", class)
			}
		})
	}
}

// A client that has sent its request may end its side, and gets its response.
func TestClientEndsFirst(t *testing.T) {
	t.Parallel()
	for _, request := range []string{
		"GET %s/ HTTP/1.0\r\n\r\n", "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", "POST %s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab",
		"POST %s/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
	} {
		f := start(t, fixtureConfig{})
		ended := make(chan struct{})
		o := newOrigin(t, func(p *peer) {
			req, err := http.ReadRequest(p.br)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				t.Error(err)
			}
			<-ended
			p.send("HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n")
			for range 20 {
				p.send(strings.Repeat("x", 10_000))
			}
		})
		client := f.client()
		client.send(fmt.Sprintf(request, o.url()))
		client.must(client.CloseWrite())
		close(ended)
		if _, body := client.response("GET"); len(body) != 200_000 {
			t.Errorf("%q: got %d bytes", request, len(body))
		}
		client.whole()
		if class := f.session().class(); class != "" {
			t.Errorf("%q: the record says %q", request, class)
		}
	}
}

// A client that leaves ends its request at the origin.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	type stage struct {
		name    string
		request string
		answer  string // before the client leaves
	}
	for _, s := range []stage{
		{"before the response", "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", ""},
		{"in a body with a length", "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx"},
		{"in a chunked body", "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"},
		{"in its own body", "POST %s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx", ""},
		{"in its own chunked body", "POST %s/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", ""},
	} {
		for _, leave := range []string{"fin", "reset"} {
			t.Run(s.name+", "+leave, func(t *testing.T) {
				t.Parallel()
				f := start(t, fixtureConfig{limits: limits{ended: 50 * time.Millisecond}})
				started, ended := make(chan struct{}), make(chan string, 1)
				o := newOrigin(t, func(p *peer) {
					p.head()
					p.send(s.answer)
					close(started)
					rest, err := p.rest()
					wantReset(t, err)
					ended <- rest
				})
				client := f.client()
				client.send(fmt.Sprintf(s.request, o.url()))
				<-started
				if s.answer != "" {
					client.head()
				}
				if leave == "reset" {
					client.reset()
				} else {
					client.end()
				}
				select {
				case rest := <-ended:
					if strings.HasSuffix(rest, "0\r\n\r\n") {
						t.Errorf("the origin got a whole body: %q", rest)
					}
				case <-time.After(loopback.Patience):
					t.Fatal("the origin's connection was not closed")
				}
				if class := f.session().class(); class != dispatcher.ClientBroken {
					t.Errorf("the record says %q", class)
				}
			})
		}
	}
}

// A client that takes no more of a long response ends it, too.
func TestClientLeavesWhileItIsSentTo(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	ended := make(chan struct{})
	o := newOrigin(t, func(p *peer) {
		defer close(ended)
		p.head()
		if _, err := io.WriteString(p.TCPConn, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
			return
		}
		for {
			if _, err := io.WriteString(p.TCPConn, strings.Repeat("x", 1<<16)); err != nil {
				return
			}
		}
	})
	client := f.client()
	client.send(get(o))
	client.head()
	client.end()
	<-ended
	if class := f.session().class(); class != dispatcher.ClientBroken {
		t.Errorf("the record says %q", class)
	}
}

// Close ends everything at once, and says so in the records.
func TestClose(t *testing.T) {
	t.Parallel()
	t.Run("handler", func(t *testing.T) {
		f := testClose(t, func(f *fixture) error { return f.handler.Close() })
		late := f.client()
		if _, err := late.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err == nil {
			if rest, _ := late.rest(); rest != "" {
				t.Errorf("after Close came %q", rest)
			}
		}
	})
	t.Run("server first", func(t *testing.T) {
		testClose(t, func(f *fixture) error {
			f.server.Close()
			return f.handler.Close()
		})
	})
}

func testClose(t *testing.T, closeAll func(f *fixture) error) *fixture {
	t.Helper()
	t.Parallel()
	f := start(t, fixtureConfig{})
	arrived := make(chan struct{}, 3)
	o := newOrigin(t, func(p *peer) {
		if head := p.head(); strings.HasPrefix(head, "GET") {
			p.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
		}
		arrived <- struct{}{}
		_, _ = p.rest()
	})
	getting, posting, tunnelling, idle := f.client(), f.client(), f.tunnel(o), f.client()
	getting.send(get(o))
	posting.send("POST " + o.url() + "/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx")
	tunnelling.send("x\r\n\r\n")
	idle.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	idle.response("GET")
	for range 3 {
		<-arrived
	}
	if err := closeAll(f); err != nil {
		t.Error(err)
	}
	for _, client := range []*peer{getting, posting, tunnelling} {
		_, err := client.rest()
		wantReset(t, err)
	}
	for _, r := range f.sessions(3) {
		if r.class() != dispatcher.Closed {
			t.Errorf("the record says %v", r)
		}
	}
	if n := f.clients(); n != 0 {
		t.Errorf("%d clients are left", n)
	}
	return f
}

// A graceful shutdown closes idle connections, and lets a response end.
func TestShutdown(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	arrived, finish := make(chan struct{}), make(chan struct{})
	o := newOrigin(t, func(p *peer) {
		p.head()
		close(arrived)
		<-finish
		p.send(ok("hello"))
		_, _ = p.rest()
	})
	idle, busy := f.client(), f.client()
	idle.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	idle.response("GET")
	busy.send(get(o))
	<-arrived
	closed := make(chan int, 1)
	go func() { closed <- f.server.Shutdown(t.Context()) }()
	idle.whole()
	close(finish)
	if _, body := busy.response("GET"); body != "hello" {
		t.Errorf("got %q", body)
	}
	busy.whole()
	if n := <-closed; n != 0 {
		t.Errorf("%d connections were closed by force", n)
	}
}

// Long responses outlive the handshake's deadlines.
func TestResponsesHaveNoDeadline(t *testing.T) {
	t.Parallel()
	const handshake = 150 * time.Millisecond
	f := start(t, fixtureConfig{handshake: handshake})
	o := newOrigin(t, func(p *peer) {
		p.head()
		time.Sleep(2 * handshake)
		p.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
		time.Sleep(2 * handshake)
		p.send("b")
	})
	client := f.client()
	client.send(get(o))
	if _, body := client.response("GET"); body != "ab" {
		t.Errorf("got %q", body)
	}
}

// A client that does not finish its head is not waited for.
func TestHeadsHaveADeadline(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{handshake: 100 * time.Millisecond})
	client := f.client()
	client.send("GET http://origin/ HTTP/1.1\r\n")
	if rest := client.whole(); rest != "" {
		t.Errorf("got %q", rest)
	}
}

// The last response on a connection is followed by a FIN, whatever the client still sends: a reset could destroy it.
func TestLastResponseEndsCleanly(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	o := newOrigin(t, hello(t))
	for _, request := range []string{
		get(o, "Connection: close"),
		"GET " + o.url() + "/ HTTP/1.0\r\n\r\n",
		"POST http://nobody/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
		"POST http://origin:0/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
		"GET http://origin/ HTTP/1.1\r\n\r\n", // without Host
		connectTo("nobody:80"),
	} {
		client := f.client()
		client.send(request)
		if _, err := client.br.Peek(1); err != nil {
			t.Fatal(err)
		}
		client.send(strings.Repeat("x", 100_000))
		client.must(client.CloseWrite())
		if all := client.whole(); !strings.HasPrefix(all, "HTTP/1.") {
			t.Errorf("%q: got %q", request, all)
		}
	}
}
