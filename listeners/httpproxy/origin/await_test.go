package origin

import (
	"errors"
	"io"
	"testing"

	"dispatch/dispatcher"
)

// awaiting returns an exchange that has sent a GET over a new link and awaits the response, and the origin's end of it.
func (f *fixture) awaiting(repeats, last bool) (*Exchange, *peer) {
	f.t.Helper()
	l := f.link(nil)
	f.t.Cleanup(func() { f.transport.pool.discard(l) })
	l.begin()
	f.transport.awaited.add(l, repeats, last)
	x := f.exchange()
	x.t, x.out, x.link = f.transport, x.In, l
	return x, f.accept()
}

func all(*dispatcher.Conn) bool { return true }

// From the first byte of a response on, no doubt in its line ends it; from the whole head on nothing does. What is
// given up before is not read, though it should come in the same moment.
func TestGivingUpIsOneDecision(t *testing.T) {
	t.Parallel()
	avoid := func(t *Transport) { t.Avoid(all, false) }
	dead := func(t *Transport) { t.Avoid(all, true) }
	drop := func(t *Transport) { t.Drop(all) }
	const begin, head = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP", "/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
	for name, c := range map[string]struct {
		giveUp        func(*Transport)
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
			f := start(t)
			x, o := f.awaiting(c.repeats, c.last)
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
			c.giveUp(f.transport)
			f.transport.awaited.remove(x.link)
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
	f := start(t)
	x, o := f.awaiting(true, false)
	x.link.stage.Store(givenUp) // and the deadline is not set yet
	o.send(ok("late"))
	if err := x.readHead(x.link); !errors.Is(err, errLineGivenUp) || x.link.received {
		t.Errorf("%v", err)
	}
}
