package httpproxy

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dispatch/listeners/httpproxy/origin"
)

// counting is an origin that counts its connections.
func counting(t *testing.T, serve func(*peer)) (originServer, *atomic.Int32) {
	count := new(atomic.Int32)
	return newOrigin(t, func(p *peer) {
		count.Add(1)
		serve(p)
	}), count
}

// A server that closes, or says something unasked, just after its response is noticed by a request that follows at once.
func TestPoolLooksBeforeItReuses(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]func(*peer){
		"end":     func(p *peer) { p.end() },
		"unasked": func(p *peer) { p.send(ok("for nobody")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, fixtureConfig{})
			done := make(chan struct{}, 2)
			o, connections := counting(t, func(p *peer) {
				p.head()
				p.send(ok("hello"))
				after(p)
				done <- struct{}{}
				_, _ = p.rest()
			})
			for range 2 {
				client := f.client()
				// Of those that are not repeated.
				client.send("POST " + o.url() + "/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
				if resp, body := client.response("POST"); resp.StatusCode != http.StatusOK || body != "hello" {
					t.Errorf("%s %q", resp.Status, body)
				}
				<-done // loopback has delivered it by now
			}
			if n := connections.Load(); n != 2 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// Requests that follow each other share a connection, of one client and of several, quickly and slowly.
func TestPoolReuses(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	o, connections := counting(t, hello(t))
	for n := range 6 {
		client := f.client()
		for _, method := range []string{"GET", "POST"} {
			client.send(strings.Replace(get(o), "GET", method, 1))
			client.response(method)
		}
		client.end()
		if n == 3 {
			time.Sleep(1200 * time.Millisecond) // the idle links have been looked at
		}
	}
	records := f.sessions(12)
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	if first, second := records[0].attrs, records[1].attrs; first["attempts"].Int64() != 1 || second["attempts"].Int64() != 0 ||
		second["destination"].String() != "127.0.0.1:"+o.port || second["down"].Int64() != int64(len(ok("hello"))) {
		t.Errorf("%v, %v", first, second)
	}
}

// A connection that a client has logged on is that client's alone, and it gets no other.
func TestPoolKeepsLoggedOnConnectionsApart(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"NTLM", "negotiate"} {
		f := start(t, fixtureConfig{})
		o := newOrigin(t, func(p *peer) {
			user := "nobody"
			for {
				req, err := http.ReadRequest(p.br)
				if err != nil {
					return
				}
				if given := req.Header.Get("Authorization"); given != "" {
					user = given
				}
				p.send(ok(user))
			}
		})
		requests := 0
		asks := func(client *peer, want string, fields ...string) {
			t.Helper()
			client.send(get(o, fields...))
			if _, body := client.response("GET"); body != want {
				t.Errorf("taken for %q, want %q", body, want)
			}
			requests++
			f.sessions(requests) // the connection is kept now
		}
		alice, bob := f.client(), f.client()
		asks(bob, "nobody")
		asks(alice, scheme+" alice", "Authorization: "+scheme+" alice")
		asks(alice, scheme+" alice")
		asks(bob, "nobody")
		asks(alice, scheme+" alice")
		asks(bob, scheme+" bob", "Authorization: "+scheme+" bob")
		asks(alice, scheme+" alice")
		asks(f.client(), "nobody")
	}
}

// What could not be repeated does not go out on a connection that its server may be closing.
func TestPoolIsNotForUnsafeRequestsWhenOld(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{origins: origin.Config{UnsafeIdle: 1}})
	o, connections := counting(t, func(p *peer) {
		for {
			req, err := http.ReadRequest(p.br)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				t.Error(err)
			}
			p.send(ok("hello"))
		}
	})
	client := f.client()
	client.send(get(o))
	client.response("GET")
	for n, request := range []string{
		"POST " + o.url() + "/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"PUT " + o.url() + "/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab",
	} {
		client.send(request)
		client.response("POST")
		if got := connections.Load(); got != int32(n)+2 {
			t.Errorf("%q: %d connections", request, got)
		}
	}
}

// Names that differ in case only are one host; ports are not.
func TestPoolKeepsHostsApart(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{zone: map[string]string{"ORIGIN": "127.0.0.1", "other": "127.0.0.1"}})
	o, connections := counting(t, hello(t))
	client := f.client()
	for _, host := range []string{"origin", "ORIGIN", "other", "127.0.0.1"} {
		client.send("GET http://" + host + ":" + o.port + "/ HTTP/1.1\r\nHost: x\r\n\r\n")
		client.response("GET")
	}
	if n := connections.Load(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
}

// What a server sends behind its response in the same breath is not the next one either.
func TestPoolDropsWhatIsBehindAResponse(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	o, connections := counting(t, func(p *peer) {
		head := p.head()
		if strings.HasPrefix(head, "HEAD") {
			p.send(ok("a body all the same"))
		} else {
			p.send(ok("hello") + ok("poison"))
		}
		_, _ = p.rest()
	})
	client := f.client()
	for _, method := range []string{"GET", "HEAD", "GET"} {
		client.send(strings.Replace(get(o), "GET", method, 1))
		if _, body := client.response(method); method == "GET" && body != "hello" {
			t.Errorf("got %q", body)
		}
	}
	if n := connections.Load(); n != 3 {
		t.Errorf("%d connections", n)
	}
}

// A request that meets a connection that its server is just closing goes out again, once, on a new one, if it may be
// repeated.
func TestPoolRepeats(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method, body string
		repeated     bool
	}{
		{"GET", "", true}, {"HEAD", "", true}, {"PUT", "", true}, {"DELETE", "", true}, {"OPTIONS", "", true},
		{"POST", "", false}, {"PATCH", "", false}, {"BREW", "", false}, {"PUT", "ab", false},
	} {
		t.Run(c.method+" "+c.body, func(t *testing.T) {
			t.Parallel()
			f := start(t, fixtureConfig{})
			// The second request of the first connection is not answered.
			var first atomic.Bool
			o, connections := counting(t, func(p *peer) {
				p.head()
				p.send(ok(""))
				if !first.Swap(true) {
					p.head()
					p.expect(c.body) // or it has not been begun, and the request may be repeated
					return
				}
				_, _ = p.rest()
			})
			client := f.client()
			client.send(get(o))
			client.response("GET")
			request := strings.Replace(get(o), "GET", c.method, 1)
			if c.body != "" {
				request = strings.TrimSuffix(request, "\r\n") + "Content-Length: 2\r\n\r\n" + c.body
			}
			client.send(request)
			resp, _ := client.response(c.method)
			if want := map[bool]int{true: 200, false: 502}[c.repeated]; resp.StatusCode != want {
				t.Errorf("%s, want %d", resp.Status, want)
			}
			if want := map[bool]int32{true: 2, false: 1}[c.repeated]; connections.Load() != want {
				t.Errorf("%d connections, want %d", connections.Load(), want)
			}
			f.sessions(2)
		})
	}
}

// Once is enough, and something of a response is too much.
func TestPoolDoesNotRepeatForEver(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{"nothing": "", "half a response": "HTTP/1.1 "} {
		f := start(t, fixtureConfig{})
		var count atomic.Int32
		o := newOrigin(t, func(p *peer) {
			p.head()
			if count.Add(1) == 1 {
				p.send(ok(""))
				p.head()
				count.Add(1)
			}
			p.send(answer)
		})
		client := f.client()
		client.send(get(o))
		client.response("GET")
		client.send(get(o))
		if resp, _ := client.response("GET"); resp.StatusCode != 502 {
			t.Errorf("%s: %s", name, resp.Status)
		}
		if want := map[string]int32{"": 3, "HTTP/1.1 ": 2}[answer]; count.Load() != want {
			t.Errorf("%s: %d requests, want %d", name, count.Load(), want)
		}
	}
}

// A request with a body that waits for a 100 has not been begun, and may be repeated.
func TestPoolRepeatsWhatWaits(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	var first atomic.Bool
	o := newOrigin(t, func(p *peer) {
		p.head()
		if !first.Swap(true) {
			p.send(ok(""))
			p.head()
			return
		}
		p.send("HTTP/1.1 100 Continue\r\n\r\n")
		p.expect("ab")
		p.send(ok("thanks"))
	})
	client := f.client()
	client.send(get(o))
	client.response("GET")
	client.send("PUT " + o.url() + "/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
	client.expect("HTTP/1.1 100 Continue\r\n\r\n")
	client.send("ab")
	if resp, body := client.response("PUT"); body != "thanks" {
		t.Errorf("%s %q", resp.Status, body)
	}
}

// A reset of a new connection, before a response, may be the line's doing: another gets its chance.
func TestRepeatsAfterAReset(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	var first atomic.Bool
	o := newOrigin(t, func(p *peer) {
		p.head()
		if !first.Swap(true) {
			p.reset()
			return
		}
		p.send(ok("hello"))
	})
	client := f.client()
	client.send(get(o))
	if resp, body := client.response("GET"); body != "hello" {
		t.Errorf("%s %q", resp.Status, body)
	}
	if r := f.session(); r.class() != "" || r.attrs["attempts"].Int64() != 2 {
		t.Errorf("the record says %v", r)
	}
}

// A server that takes a new connection and ends it without a word has said what it has to say.
func TestDoesNotRepeatAfterACleanEnd(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	o, connections := counting(t, func(p *peer) { p.head() })
	client := f.client()
	client.send(get(o))
	if resp, body := client.response("GET"); resp.StatusCode != 502 {
		t.Errorf("%s %q", resp.Status, body)
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}
