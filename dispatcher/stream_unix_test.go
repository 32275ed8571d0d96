//go:build unix

package dispatcher

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"dispatch/testdata/loopback"
)

// overTLS makes a connection one of a line whose streams are TLS over TCP.
func overTLS(t *testing.T, conn *Conn, server net.Conn) *tls.Conn {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	near := tls.Client(conn.stream, &tls.Config{InsecureSkipVerify: true})
	far := tls.Server(server, &tls.Config{
		Certificates:           []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		SessionTicketsDisabled: true, // one would be unread in what is to be quiet
	})
	failed := make(chan error, 1)
	go func() { failed <- near.HandshakeContext(t.Context()) }()
	if err := errors.Join(far.HandshakeContext(t.Context()), <-failed); err != nil {
		t.Fatal(err)
	}
	conn.stream = near
	for _, c := range []net.Conn{near, far} {
		if err := c.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	return far
}

// say writes to one end, and hears reads the same from another.
func say(t *testing.T, to io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(to, text); err != nil {
		t.Fatal(err)
	}
}

func hears(t *testing.T, from io.Reader, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(from, got); err != nil || string(got) != text {
		t.Fatalf("got %q, %v; want %q", got, err, text)
	}
}

func TestRelayOfATLSLine(t *testing.T) {
	t.Parallel()
	var log loopback.Log
	conn, client, near, server := connected(t, log.Logger())
	over := overTLS(t, conn, server)
	ended := make(chan error, 1)
	conn.Relay(near, func(err error) { ended <- err })
	say(t, client, "request")
	hears(t, over, "request")
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(over); len(rest) > 0 || err != nil {
		t.Errorf("behind the request: %q, %v", rest, err)
	}
	say(t, over, "answer") // the other direction goes on
	hears(t, client, "answer")
	if err := over.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(client); len(rest) > 0 || err != nil {
		t.Errorf("behind the answer: %q, %v", rest, err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the relay ended with %v", err)
	}
	if record := log.String(); !strings.Contains(record, `"up":7,"down":6`) || !strings.Contains(record, `"class":""`) {
		t.Errorf("the record is %s", record)
	}
}

// TestResetOfATLSLine has a destination break its connection, and the gateway.
func TestResetOfATLSLine(t *testing.T) {
	t.Parallel()
	for name, reset := range map[string]func(conn *Conn, server *net.TCPConn) error{
		"by the destination": func(_ *Conn, server *net.TCPConn) error { return loopback.Reset(server) },
		"by the gateway":     func(conn *Conn, _ *net.TCPConn) error { return conn.Reset() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, client, near, server := connected(t, nil)
			over := overTLS(t, conn, server)
			ended := make(chan error, 1)
			conn.Relay(near, func(err error) { ended <- err })
			say(t, over, "half")
			hears(t, client, "half")
			if err := reset(conn, server); err != nil {
				t.Error(err)
			}
			if _, err := client.Read(make([]byte, 1)); !loopback.IsReset(err) {
				t.Errorf("the client saw %v, want a reset", err)
			}
			if _, err := over.Read(make([]byte, 1)); !loopback.IsReset(err) && !errors.Is(err, net.ErrClosed) {
				t.Errorf("the destination saw %v, want a reset", err)
			}
			if err := <-ended; err == nil {
				t.Error("the session is told to have ended well")
			}
		})
	}
}

func TestQuiet(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*testing.T) (*Conn, Stream){
		"TCP": func(t *testing.T) (*Conn, Stream) {
			conn, _, _, server := connected(t, nil)
			return conn, server
		},
		"TLS": func(t *testing.T) (*Conn, Stream) {
			conn, _, _, server := connected(t, nil)
			return conn, overTLS(t, conn, server)
		},
	} {
		becomes := func(conn *Conn, want bool) {
			t.Helper()
			loopback.Eventually(t, fmt.Sprintf("%s to be quiet: %t", name, want), func() bool { return conn.Quiet() == want })
		}
		conn, server := begin(t)
		becomes(conn, true)
		say(t, server, "hello")
		hears(t, conn, "hello")
		if !conn.Quiet() {
			t.Errorf("%s: not quiet after all was read", name)
		}
		say(t, server, "more")
		becomes(conn, false)

		conn, server = begin(t)
		say(t, server, "hello")
		hears(t, conn, "h") // TLS has the rest, and its socket nothing
		if conn.Quiet() {
			t.Errorf("%s: quiet with bytes that were not read", name)
		}

		conn, server = begin(t)
		if err := server.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		becomes(conn, false)

		conn, server = begin(t)
		if err := Reset(server); err != nil {
			t.Fatal(err)
		}
		becomes(conn, false)

		conn, _ = begin(t)
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		if conn.Quiet() {
			t.Errorf("%s: quiet when it is closed", name)
		}
	}
}
