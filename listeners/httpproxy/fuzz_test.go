package httpproxy

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dispatch/testdata/loopback"
)

// quietTB is a fuzz test's F for what goes on while its targets run, when F must not be called.
type quietTB struct{ testing.TB }

func (quietTB) Helper()      {}
func (quietTB) Error(...any) {} // an origin's trouble with a request that makes no sense

// FuzzRequestHead sends a client's bytes, whatever they are, and its FIN. The connection must come to an end, with
// nothing left of it, and without a panic.
func FuzzRequestHead(f *testing.F) {
	setup := quietTB{f}
	fx := start(setup, fixtureConfig{limits: limits{ended: 10 * time.Millisecond}, handshake: time.Second, timeout: time.Second})
	// One origin that answers every head, and echoes what else comes.
	o := newOrigin(setup, func(p *peer) {
		for {
			line, err := p.br.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\r\n" {
				line = ok("hello")
			}
			if _, err := io.WriteString(p.TCPConn, line); err != nil {
				return
			}
		}
	})
	for _, seed := range []string{
		get(o), get(o) + get(o), connectTo(o.host()) + "early", connectTo("nobody:80"), connectTo("[::1]:1"),
		upgradeTo(o, "websocket") + "early",
		"POST " + o.url() + "/ HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab\r\n",
		"POST " + o.url() + "/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab",
		"POST " + o.url() + "/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nab\r\n0\r\nX: y\r\n\r\n",
		"POST " + o.url() + "/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nzz\r\n",
		"OPTIONS " + o.url() + " HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n",
		"TRACE " + o.url() + "//x HTTP/1.0\r\nMax-Forwards: 1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: \"\r\n\r\n", "GET /proxy.pac HTTP/1.0\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET http://[::1%25lo]/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://u:p@origin/ HTTP/1.1\r\nHost: x\r\nConnection: a, b, close\r\n\r\n", "G", "GET \r\n\r\n", "CONNECT  HTTP/1.1\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		conn, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(fx.at))
		if err != nil {
			t.Fatal(err)
		}
		p := newPeer(t, conn)
		defer p.end()
		// The gateway may answer, or refuse the rest, at any time.
		if _, err := conn.Write(request); err == nil {
			_ = conn.CloseWrite()
		}
		if _, err := p.rest(); err != nil && !loopback.IsReset(err) {
			t.Errorf("the connection did not end: %v", err)
		}
		p.end()
		within := &fixture{t: t, handler: fx.handler, dispatcher: fx.dispatcher}
		within.eventually("nothing is left", func() bool { return fx.clients() == 0 && fx.dispatcher.Snapshot().All.Live == 0 })
		if panics := len(fx.records.with("serving an HTTP client panicked")) + len(fx.records.with("a tunnel panicked")); panics > 0 {
			t.Errorf("%d panics: %v", panics, fx.records.all)
		}
		fx.records.clear()
	})
}

// Hosts that checkHost lets pass need no escaping, wherever they are printed.
func FuzzAuthority(f *testing.F) {
	for _, seed := range []string{
		"example.com", "example.com:80", "[::1]:443", "[fe80::1%25eth0]:80", "user@host", "a b", "\"", "<script>", "%41", "[::1%25lo]", ":80", "a:", "xn--a", "[v1.x]",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, authority string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+authority+"/", http.NoBody)
		if err != nil {
			return
		}
		host, port, err := authorityOf(r.URL, 80)
		if err != nil {
			return
		}
		if port == 0 || host == "" {
			t.Errorf("%q: %q %d", authority, host, port)
		}
		if addr, err := netip.ParseAddr(host); err == nil {
			host = addr.Zone()
		}
		if strings.ContainsFunc(host, func(c rune) bool {
			return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune("-._", c)
		}) {
			t.Errorf("%q: %q", authority, host)
		}
	})
}
