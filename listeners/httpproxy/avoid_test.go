package httpproxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// awaiting returns an exchange that has sent a GET over a new link and awaits the response, and the origin's end of it.
func (f *fixture) awaiting(repeats, last bool) (*exchange, *peer) {
	f.t.Helper()
	ends, done := make(chan *peer), make(chan struct{})
	o := newOrigin(f.t, func(p *peer) {
		ends <- p
		<-done
	})
	f.t.Cleanup(func() { close(done) })
	l := f.link(o, nil)
	f.t.Cleanup(func() { f.handler.pool.discard(l) })
	out, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, o.url(), http.NoBody)
	if err != nil {
		f.t.Fatal(err)
	}
	l.begin()
	f.handler.awaited.add(l, repeats, last)
	return &exchange{h: f.handler, out: out, in: out, w: &writer{}, link: l}, <-ends
}

// From the first byte of a response on, no doubt in its line ends it; from the whole head on nothing does. What is
// given up before is not read, though it should come in the same moment.
func TestGivingUpIsOneDecision(t *testing.T) {
	t.Parallel()
	avoid := func(h *Handler) { h.Avoid(all, false) }
	dead := func(h *Handler) { h.Avoid(all, true) }
	drop := func(h *Handler) { h.Drop(all) }
	const begin, head = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP", "/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
	for name, c := range map[string]struct {
		giveUp        func(*Handler)
		said          string // by the origin before that
		repeats, last bool
		given         bool // up
	}{
		"doubt, silent":               {avoid, "", true, false, true},
		"doubt, silent, last try":     {avoid, "", true, true, false},
		"doubt, silent, no repeating": {avoid, "", false, false, false},
		"doubt, begun":                {avoid, begin, true, false, false},
		"doubt, head":                 {avoid, begin + head, true, false, false},
		"death, silent, last try":     {dead, "", true, true, true},
		"death, begun":                {dead, begin, true, false, true},
		"death, head":                 {dead, begin + head, true, false, false},
		"dropped, silent":             {drop, "", false, false, true},
		"dropped, begun":              {drop, begin, false, false, true},
		"dropped, head":               {drop, begin + head, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, fixtureConfig{})
			x, o := f.awaiting(c.repeats, c.last)
			x.w.request, x.w.final = x.in, true // there is no client to send the 103 to
			read := func() error { return x.readHead(x.link) }
			switch c.said {
			case begin: // is in the buffer, and the head is being waited for
				o.send(begin)
				if _, err := x.link.br.Peek(len(begin)); err != nil {
					t.Fatal(err)
				}
			case begin + head:
				o.send(c.said)
				if err := read(); err != nil {
					t.Fatal(err)
				}
				read = func() error { return nil }
			}
			c.giveUp(f.handler)
			f.handler.awaited.remove(x.link)
			o.send((begin + head + "hello")[len(c.said):])
			err := read()
			if gaveUp := err != nil; gaveUp != c.given {
				t.Fatalf("reading the head: %v", err)
			}
			if c.given {
				return
			}
			if body, err := io.ReadAll(x.resp.Body); string(body) != "hello" {
				t.Errorf("%q, %v", body, err)
			}
		})
	}
}

// What has arrived when the line is given up is not taken for a response either.
func TestGivenUpIsNotRead(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	x, o := f.awaiting(true, false)
	x.link.stage.Store(givenUp) // and the deadline is not set yet
	o.send(ok("late"))
	if err := x.readHead(x.link); !errors.Is(err, errLineGivenUp) || x.link.received {
		t.Errorf("%v", err)
	}
}

// However often lines are doubted, no client sees a part of a response, nor an error.
func TestAvoidBesideResponses(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{quiet: true})
	body := strings.Repeat("x", 20000)
	o := newOrigin(t, func(p *peer) {
		for {
			if _, err := http.ReadRequest(p.br); err != nil {
				return
			}
			if _, err := io.WriteString(p.TCPConn, ok(body)); err != nil { // given up
				return
			}
		}
	})
	stop := make(chan struct{})
	var doubting sync.WaitGroup
	doubting.Go(func() {
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				f.handler.Avoid(all, false)
			}
		}
	})
	var clients sync.WaitGroup
	for range 4 {
		client := f.client()
		clients.Go(func() {
			for range 250 {
				client.send(get(o))
				resp, err := http.ReadResponse(client.br, nil)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				if what := fmt.Sprint(resp.Status, " ", len(got), " ", err); what != "200 OK 20000 <nil>" {
					t.Error(what)
					return
				}
			}
		})
	}
	clients.Wait()
	close(stop)
	doubting.Wait()
}
