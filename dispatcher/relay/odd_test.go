package relay

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"time"
)

// pipeRig is a session whose client end is a net.Pipe, which cannot be
// half-closed.
func pipeRig(t *testing.T) (*rig, net.Conn) {
	t.Helper()
	client, near := net.Pipe()
	far, server := pair(t)
	r := &rig{tb: t, server: &app{t, server}, near: near, far: far}
	r.start(newEngine())
	t.Cleanup(func() { client.Close() })
	must(t, client.SetDeadline(time.Now().Add(patience)))
	return r, client
}

func TestNoHalfClose(t *testing.T) {
	t.Run("destination ends first", func(t *testing.T) {
		for range 30 { // the two directions race for what is to be reported
			r, client := pipeRig(t)
			r.server.send([]byte("all"))
			r.server.fin()
			got, err := io.ReadAll(client) // is told of the end
			if string(got) != "all" || err != nil {
				t.Errorf("the client got %q, %v", got, err)
			}
			r.server.broken() // is told that the client was cut off
			if err := r.end(); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("the session ended with %v, want one that is ErrUnsupported", err)
			}
			r.counted(0, 3)
		}
	})
	t.Run("client ends first", func(t *testing.T) {
		r, client := pipeRig(t)
		_, err := client.Write([]byte("all"))
		must(t, err)
		must(t, client.Close())
		r.server.getsFIN(3)
		r.server.fin()
		r.endsClean()
	})
	t.Run("destination sends to a client that has gone", func(t *testing.T) {
		r, client := pipeRig(t)
		must(t, client.Close())
		r.server.getsFIN(0)
		r.server.broken()
		if err := r.end(); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the session ended with %v, want io.ErrClosedPipe", err)
		}
	})
	t.Run("destination resets", func(t *testing.T) {
		r, client := pipeRig(t)
		r.server.reset()
		if _, err := io.ReadAll(client); err != nil {
			t.Error(err) // a pipe knows no other end than this
		}
		r.endsReset(Destination)
	})
	t.Run("both are pipes", func(t *testing.T) {
		client, near := net.Pipe()
		far, server := net.Pipe()
		r := &rig{tb: t, near: near, far: far}
		r.start(newEngine())
		go func() {
			_, _ = client.Write([]byte("all"))
			client.Close()
		}()
		if got, err := io.ReadAll(server); string(got) != "all" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		if err := r.end(); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("the session ended with %v, want one that is ErrUnsupported", err)
		}
		server.Close()
	})
}

// TestClosedOnce checks that a wrapper is closed exactly once, however the
// session ends.
func TestClosedOnce(t *testing.T) {
	ends := map[string]func(r *rig){
		"FIN": func(r *rig) {
			r.client.fin()
			_, _ = r.server.rest() // to a FIN, or without CloseWrite to the close
			r.server.conn.Close()
		},
		"client reset":      func(r *rig) { r.client.reset() },
		"destination reset": func(r *rig) { r.server.reset() },
	}
	wraps := map[string]func(*net.TCPConn) net.Conn{
		"with CloseWrite":    wrapped,
		"without CloseWrite": func(c *net.TCPConn) net.Conn { return wholeOnly{wrapped(c)} },
	}
	for name, end := range ends {
		for with, wrap := range wraps {
			t.Run(name+" "+with, func(t *testing.T) {
				r := newRig(t, newEngine(), wrap)
				end(r)
				r.end() //nolint:errcheck // other tests look at it
				for _, conn := range []net.Conn{r.near, r.far} {
					if only, ok := conn.(wholeOnly); ok {
						conn = only.Conn
					}
					if n := conn.(*wrapper).closes.Load(); n != 1 {
						t.Errorf("closed %d times", n)
					}
				}
			})
		}
	}
}

// wholeOnly hides CloseWrite.
type wholeOnly struct{ net.Conn }

// tlsRig is a session whose client end is a TLS server's.
func tlsRig(t *testing.T) (r *rig, client *tls.Conn, clientTCP *net.TCPConn) {
	t.Helper()
	clientTCP, near := pair(t)
	far, server := pair(t)
	r = &rig{tb: t, server: &app{t, server}, near: tls.Server(near, serverConfig(t)), far: far}
	r.start(newEngine())
	client = tls.Client(clientTCP, &tls.Config{InsecureSkipVerify: true})
	must(t, client.SetDeadline(time.Now().Add(patience)))
	must(t, client.Handshake())
	return r, client, clientTCP
}

func serverConfig(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func TestTLS(t *testing.T) {
	t.Run("close_notify is a FIN, and a FIN is close_notify", func(t *testing.T) {
		r, client, _ := tlsRig(t)
		_, err := client.Write(pattern(1, 100_000))
		must(t, err)
		must(t, client.CloseWrite())
		r.server.gets(pattern(1, 100_000))
		r.server.getsFIN(0)
		r.server.send(pattern(2, 200_000))
		r.server.fin()
		if got, err := io.ReadAll(client); string(got) != string(pattern(2, 200_000)) || err != nil {
			t.Errorf("the client got %d bytes and %v", len(got), err)
		}
		r.endsClean()
		r.counted(100_000, 200_000)
	})
	t.Run("a reset is no close_notify", func(t *testing.T) {
		r, client, _ := tlsRig(t)
		r.server.send(pattern(1, 1000))
		must(t, second(io.ReadFull(client, make([]byte, 1000))))
		r.server.reset()
		if _, err := io.ReadAll(client); !isReset(err) {
			t.Errorf("the client saw %v, want a reset", err)
		}
		r.endsReset(Destination)
	})
	t.Run("a reset of the TLS side is a reset", func(t *testing.T) {
		r, _, clientTCP := tlsRig(t)
		(&app{t, clientTCP}).reset()
		r.server.getsReset(0)
		r.endsReset(Client)
	})
	t.Run("an end in the midst of a record is a reset", func(t *testing.T) {
		r, _, clientTCP := tlsRig(t)
		must(t, second(clientTCP.Write([]byte{23, 3, 3, 0, 100, 1, 2, 3})))
		must(t, clientTCP.CloseWrite())
		r.server.getsReset(0)
		if err := r.end(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the session ended with %v, want io.ErrUnexpectedEOF", err)
		}
	})
}

func second(_ int, err error) error { return err }

// stuck is a connection that reads nothing, without an error, for ever.
type stuck struct{ *wrapper }

func (stuck) Read([]byte) (int, error) { return 0, nil }

// short is a connection that takes half of what it is given, without an error.
type short struct{ *wrapper }

func (s short) Write(b []byte) (int, error) { return s.wrapper.Write(b[:len(b)/2]) }

func TestBrokenConnections(t *testing.T) {
	t.Run("reads nothing", func(t *testing.T) {
		r := newRig(t, newEngine(), func(c *net.TCPConn) net.Conn { return stuck{&wrapper{tcp: c}} })
		if err := r.end(); !errors.Is(err, io.ErrNoProgress) {
			t.Errorf("the session ended with %v, want io.ErrNoProgress", err)
		}
	})
	t.Run("writes too little", func(t *testing.T) {
		r := newRig(t, newEngine(), func(c *net.TCPConn) net.Conn { return short{&wrapper{tcp: c}} })
		r.client.send([]byte("four"))
		r.server.gets([]byte("fo"))
		r.server.getsReset(0)
		if err := r.end(); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("the session ended with %v, want io.ErrShortWrite", err)
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
	r := newRig(t, newEngine(), func(c *net.TCPConn) net.Conn { return panicking{&wrapper{tcp: c}, now} })
	close(now)
	r.client.getsReset(0)
	r.server.getsReset(0)
	var p *PanicError
	if err := r.end(); !errors.As(err, &p) {
		t.Fatalf("the session ended with %v, want a panic", err)
	}
	if p.Value != "as a test wants it" || !bytes.Contains(p.Stack, []byte("panicking.Read")) {
		t.Errorf("the panic is told as %q, at %s", p.Value, p.Stack)
	}
}
