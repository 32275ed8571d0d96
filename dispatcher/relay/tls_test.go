package relay

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// tlsClient has the client speak TLS to the relay, tlsServer the relay to the server:
// a line whose streams are TLS over TCP.
func tlsClient(version uint16) wrap {
	return func(tb testing.TB, outer, inner *net.TCPConn) (app, relay Stream) {
		return handshake(tb, version, &recorded{TCPConn: outer}, inner)
	}
}

func tlsServer(version uint16) wrap {
	return func(tb testing.TB, outer, inner *net.TCPConn) (app, relay Stream) {
		relay, app = handshake(tb, version, inner, &recorded{TCPConn: outer})
		return app, relay
	}
}

func handshake(tb testing.TB, version uint16, client, server net.Conn) (asClient, asServer *tls.Conn) {
	tb.Helper()
	asClient = tls.Client(client, &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
	asServer = tls.Server(server, serverConfig(tb))
	failed := make(chan error, 1)
	go func() { failed <- asClient.HandshakeContext(tb.Context()) }()
	must(tb, asServer.HandshakeContext(tb.Context()))
	must(tb, <-failed)
	return asClient, asServer
}

func serverConfig(tb testing.TB) *tls.Config {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(tb, err)
	// A ticket that nobody has read yet would turn a close into a reset.
	certificate := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return &tls.Config{Certificates: []tls.Certificate{certificate}, SessionTicketsDisabled: true}
}

// recorded looks at the TLS records that are read from a connection.
type recorded struct {
	*net.TCPConn
	head  []byte // of a record, so far
	left  int    // bytes of the record that are still to come
	alert atomic.Bool
}

func (r *recorded) Read(p []byte) (int, error) {
	n, err := r.TCPConn.Read(p)
	for rest := p[:n]; len(rest) > 0; {
		if r.left == 0 {
			r.head = append(r.head, rest[0])
			rest = rest[1:]
			if len(r.head) == 5 {
				r.left = int(binary.BigEndian.Uint16(r.head[3:]))
				r.alert.Store(r.head[0] == 21)
				r.head = r.head[:0]
			}
			continue
		}
		skip := min(r.left, len(rest))
		r.left -= skip
		rest = rest[skip:]
	}
	return n, err
}

// sawCloseNotify tells whether the last record that conn has read is an alert, where that can
// be told: TLS 1.3 hides it.
func sawCloseNotify(conn Stream) (yes, known bool) {
	over, ok := conn.(*tls.Conn)
	if !ok || over.ConnectionState().Version != tls.VersionTLS12 {
		return false, false
	}
	return over.NetConn().(*recorded).alert.Load(), true
}

// TestEndInTheMidstOfARecord has a client cut off by a FIN: what it had said is not all.
func TestEndInTheMidstOfARecord(t *testing.T) {
	r := newRig(t, NewEngine(), tlsClient(tls.VersionTLS13), whole)
	must(t, second(r.client.tcp.Write([]byte{23, 3, 3, 0, 100, 1, 2, 3})))
	must(t, r.client.tcp.CloseWrite())
	r.server.getsReset(0)
	if err := r.end(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the relay ended with %v, want io.ErrUnexpectedEOF", err)
	}
}

func second(_ int, err error) error { return err }
