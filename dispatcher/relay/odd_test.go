package relay

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"dispatch/testdata/loopback"
)

// halves is a stream without a socket: two pipes, of which each can be closed.
type halves struct {
	net.Conn          // what is read
	out      net.Conn // what is written
}

func (h halves) Write(p []byte) (int, error)        { return h.out.Write(p) }
func (h halves) CloseWrite() error                  { return h.out.Close() }
func (h halves) SetWriteDeadline(t time.Time) error { return h.out.SetWriteDeadline(t) }
func (h halves) Close() error                       { return errors.Join(h.Conn.Close(), h.out.Close()) }

// socketless is a relay whose client has no socket.
func socketless(t *testing.T) (r *rig, client halves) {
	t.Helper()
	there, up := net.Pipe()
	down, back := net.Pipe()
	far, server := loopback.Pair(t)
	client = halves{down, there}
	r = &rig{tb: t, server: plain(t, server), near: halves{up, back}, far: far}
	r.start(NewEngine())
	t.Cleanup(func() { client.Close() })
	must(t, client.SetDeadline(time.Now().Add(loopback.Patience)))
	must(t, client.SetWriteDeadline(time.Now().Add(loopback.Patience)))
	return r, client
}

func TestStreamWithoutASocket(t *testing.T) {
	t.Run("destination ends first", func(t *testing.T) {
		r, client := socketless(t)
		r.server.send([]byte("all"))
		r.server.fin()
		if got, err := io.ReadAll(client); string(got) != "all" || err != nil {
			t.Errorf("the client got %q, %v", got, err)
		}
		must(t, second(client.Write(pattern(1, 100_000))))
		must(t, client.CloseWrite())
		r.server.gets(pattern(1, 100_000))
		r.server.getsFIN(0)
		r.endsClean()
		r.counted(100_000, 3)
	})
	t.Run("client ends first", func(t *testing.T) {
		r, client := socketless(t)
		must(t, second(client.Write([]byte("all"))))
		must(t, client.CloseWrite())
		r.server.getsFIN(3)
		r.server.send(pattern(1, 100_000))
		r.server.fin()
		if got, err := io.ReadAll(client); string(got) != string(pattern(1, 100_000)) || err != nil {
			t.Errorf("the client got %d bytes and %v", len(got), err)
		}
		r.endsClean()
		r.counted(3, 100_000)
	})
	t.Run("destination sends to a client that has gone", func(t *testing.T) {
		r, client := socketless(t)
		must(t, client.Close())
		r.server.getsFIN(0)
		r.server.broken()
		if err := r.end(); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the relay ended with %v, want io.ErrClosedPipe", err)
		}
	})
	t.Run("destination resets", func(t *testing.T) {
		r, client := socketless(t)
		r.server.reset()
		if _, err := io.ReadAll(client); err != nil {
			t.Error(err) // a pipe knows no other end than this
		}
		r.endsReset(Destination)
	})
	t.Run("its end cannot be told", func(t *testing.T) {
		client, near := loopback.Pair(t)
		far, server := loopback.Pair(t)
		r := &rig{tb: t, client: plain(t, client), server: plain(t, server), near: mute{&wrapper{tcp: near}}, far: far}
		r.start(NewEngine())
		r.server.send([]byte("all"))
		r.server.fin()
		r.client.getsReset(3) // rather than to believe that there is more to come
		r.server.broken()
		if err := r.end(); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("the relay ended with %v, want one that is ErrUnsupported", err)
		}
	})
}

// mute is a stream that cannot tell its peer that nothing more will come.
type mute struct{ *wrapper }

func (mute) CloseWrite() error { return errors.ErrUnsupported }

// TestClosedOnce checks that a wrapper is closed exactly once, however the
// session ends.
func TestClosedOnce(t *testing.T) {
	ends := map[string]func(r *rig){
		"FIN": func(r *rig) {
			r.client.fin()
			_, _ = r.server.rest()
			r.server.conn.Close()
		},
		"client reset":      func(r *rig) { r.client.reset() },
		"destination reset": func(r *rig) { r.server.reset() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, NewEngine(), wrapped, wrapped)
			end(r)
			r.end() //nolint:errcheck // other tests look at it
			for _, stream := range []Stream{r.near, r.far} {
				if n := stream.(*wrapper).closes.Load(); n != 1 {
					t.Errorf("closed %d times", n)
				}
			}
		})
	}
}

// TestStates has a stream asked how its peer is, whatever it is made of.
func TestStates(t *testing.T) {
	for name, over := range map[string]wrap{"socket": whole, "wrapper": wrapped, "TLS": tlsClient(tls.VersionTLS13)} {
		t.Run(name, func(t *testing.T) {
			becomes := func(inner Stream, want State) {
				t.Helper()
				loopback.Eventually(t, "the state", func() bool { return StateOf(inner) == want })
			}
			begin := func() (*app, Stream) {
				outerTCP, innerTCP := loopback.Pair(t)
				outer, inner := over(t, outerTCP, innerTCP)
				becomes(inner, Open)
				return &app{t, outer, outerTCP}, inner
			}
			outer, inner := begin()
			outer.send([]byte("hello"))
			becomes(inner, Unread)
			must(t, outer.tcp.CloseWrite())
			time.Sleep(20 * time.Millisecond)
			becomes(inner, Unread) // with the end behind it
			must(t, second(io.ReadFull(inner, make([]byte, 5))))
			becomes(inner, Ended)
			outer.reset()
			becomes(inner, Broken)

			outer, inner = begin()
			outer.send([]byte("hello"))
			becomes(inner, Unread)
			outer.reset()
			becomes(inner, Broken)

			outer, inner = begin()
			must(t, Reset(inner))
			becomes(inner, Broken)
			must(t, Reset(inner)) // once more is no error
			outer.getsReset(0)
		})
	}
	_, inner := net.Pipe()
	if got := StateOf(halves{inner, inner}); got != Open {
		t.Errorf("the state of a stream without a socket is %d", got)
	}
}

// newBroken is a rig with streams that are not as they should be.
func newBroken(t *testing.T, breaks func(*wrapper) Stream) *rig {
	t.Helper()
	over := func(_ testing.TB, outer, inner *net.TCPConn) (app, relay Stream) {
		return outer, breaks(&wrapper{tcp: inner})
	}
	return newRig(t, NewEngine(), over, over)
}

// stuck is a connection that reads nothing, without an error, for ever.
type stuck struct{ *wrapper }

func (stuck) Read([]byte) (int, error) { return 0, nil }

// short is a connection that takes half of what it is given, without an error.
type short struct{ *wrapper }

func (s short) Write(b []byte) (int, error) { return s.wrapper.Write(b[:len(b)/2]) }

func TestBrokenConnections(t *testing.T) {
	t.Run("reads nothing", func(t *testing.T) {
		r := newBroken(t, func(w *wrapper) Stream { return stuck{w} })
		if err := r.end(); !errors.Is(err, io.ErrNoProgress) {
			t.Errorf("the relay ended with %v, want io.ErrNoProgress", err)
		}
	})
	t.Run("writes too little", func(t *testing.T) {
		r := newBroken(t, func(w *wrapper) Stream { return short{w} })
		r.client.send([]byte("four"))
		r.server.gets([]byte("fo"))
		r.server.getsReset(0)
		if err := r.end(); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("the relay ended with %v, want io.ErrShortWrite", err)
		}
		r.counted(2, 0)
	})
}

// panicking is a connection whose reading panics, once it has been told to.
type panicking struct {
	*wrapper
	now chan struct{}
}

func (p panicking) Read([]byte) (int, error) {
	<-p.now
	panic("as a test wants it")
}

func TestPanic(t *testing.T) {
	now := make(chan struct{})
	r := newBroken(t, func(w *wrapper) Stream { return panicking{w, now} })
	close(now)
	r.client.getsReset(0)
	r.server.getsReset(0)
	var p *PanicError
	if err := r.end(); !errors.As(err, &p) {
		t.Fatalf("the relay ended with %v, want a panic", err)
	}
	if p.Value != "as a test wants it" || !bytes.Contains(p.Stack, []byte("panicking.Read")) {
		t.Errorf("the panic is told as %q, at %s", p.Value, p.Stack)
	}
}
