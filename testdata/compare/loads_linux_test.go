package compare

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// load is one kind of use.
type load struct {
	name  string
	bytes int64                                       // an operation moves; 0: no throughput
	run   func(e *environment, p *proxy, n int) error // n operations by way of a proxy; nil: without one
	http  bool                                        // only for proxies that take HTTP requests
}

func (l load) fits(p *proxy) bool { return !l.http || p.has("http") || p.has("web") }

func loads() []load {
	return []load{
		{name: "stream", bytes: 1 << 20, run: streams(1, download)},
		{name: "streams8", bytes: 1 << 20, run: streams(8, download)},
		{name: "upload", bytes: 1 << 20, run: streams(1, upload)},
		{name: "connect", run: connections(1)},
		{name: "connect16", run: connections(16)},
		{name: "trip", run: trips},
		{name: "get", run: gets, http: true},
	}
}

// within ends a connection that hangs.
const within = time.Minute

// dial opens a connection to a service, by way of the proxy where there is one. The caller closes it.
func (e *environment) dial(p *proxy, service string) (*net.TCPConn, error) {
	to, at := e.services[service], e.services[service]
	var handshake func(net.Conn, string) error
	switch {
	case p == nil:
	case p.has("socks"):
		at, handshake = p.listens["socks"], socks5
	case p.has("http"):
		at, handshake = p.listens["http"], httpConnect
	default:
		at = p.listens[service]
	}
	// Without keep-alive: its socket options would be a larger part of a direct connection than of a proxied one.
	conn, err := (&net.Dialer{KeepAlive: -1, Timeout: within}).Dial("tcp", at)
	if err != nil {
		return nil, err
	}
	err = conn.SetDeadline(time.Now().Add(within))
	if err == nil && handshake != nil {
		err = handshake(conn, to)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn.(*net.TCPConn), nil
}

var errRefused = errors.New("that is not what was asked for")

// socks5 asks as most clients do: the method first, and, when it is agreed on, the address (RFC 1928).
func socks5(conn net.Conn, to string) error {
	var buf [4 + 16 + 2]byte
	target := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(to))
	if _, err := conn.Write([]byte{5, 1, 0}); err != nil {
		return fmt.Errorf("SOCKS5 greeting: %w", err)
	}
	if _, err := io.ReadFull(conn, buf[:2]); err != nil || buf[1] != 0 {
		return fmt.Errorf("SOCKS5 method: got % x: %w", buf[:2], cmp.Or(err, errRefused))
	}
	request := append([]byte{5, 1, 0, 1}, target.IP.To4()...)
	if _, err := conn.Write(binary.BigEndian.AppendUint16(request, uint16(target.Port))); err != nil {
		return fmt.Errorf("SOCKS5 request: %w", err)
	}
	// In one call where it comes in one piece. No server here speaks first, so nothing of the tunnel is taken.
	n, err := io.ReadAtLeast(conn, buf[:], 4+4+2)
	if err == nil && buf[3] == 4 { // an IPv6 address, which is longer
		_, err = io.ReadFull(conn, buf[n:])
	}
	if err != nil || buf[1] != 0 {
		return fmt.Errorf("SOCKS5 reply: got % x: %w", buf[:n], cmp.Or(err, errRefused))
	}
	return nil
}

// httpConnect asks with CONNECT (RFC 9110, section 9.3.6).
func httpConnect(conn net.Conn, to string) error {
	if _, err := fmt.Fprintf(conn, "CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", to); err != nil {
		return fmt.Errorf("CONNECT: %w", err)
	}
	var buf [4096]byte
	for n := 0; ; {
		got, err := conn.Read(buf[n:])
		n += got
		if head := buf[:n]; bytes.HasSuffix(head, []byte("\r\n\r\n")) && bytes.HasPrefix(head, []byte("HTTP/1.")) && bytes.HasPrefix(head[8:], []byte(" 200")) {
			return nil
		}
		if err != nil || n == len(buf) {
			return fmt.Errorf("CONNECT: got %q: %w", buf[:n], cmp.Or(err, errRefused))
		}
	}
}

// divide has so many workers do n operations.
func divide(n, workers int, work func(n int) error) error {
	var g errgroup.Group
	for i := range workers {
		g.Go(func() error { return work(n*(i+1)/workers - n*i/workers) })
	}
	return g.Wait()
}

// repeat returns work for divide.
func repeat(operation func() error) func(int) error {
	return func(n int) error {
		for range n {
			if err := operation(); err != nil {
				return err
			}
		}
		return nil
	}
}

// connections does what a session can least be used for: connect, handshake, one byte each way, close.
func connections(concurrency int) func(*environment, *proxy, int) error {
	return func(e *environment, p *proxy, n int) error {
		return divide(n, concurrency, repeat(func() error {
			conn, err := e.dial(p, "echo")
			if err != nil {
				return err
			}
			return errors.Join(trip(conn), conn.Close())
		}))
	}
}

// trip sends a byte and waits until it is back.
func trip(conn net.Conn) error {
	b := [1]byte{'.'}
	if _, err := conn.Write(b[:]); err != nil {
		return fmt.Errorf("the byte out: %w", err)
	}
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return fmt.Errorf("the byte back: %w", err)
	}
	return nil
}

// trips sends one byte there and back, through an open connection.
func trips(e *environment, p *proxy, n int) error {
	conn, err := e.dial(p, "echo")
	if err != nil {
		return err
	}
	defer conn.Close()
	return repeat(func() error { return trip(conn) })(n)
}

// gets requests a small object by eight clients that keep their connections, where the proxy lets them.
func gets(e *environment, p *proxy, n int) error {
	const clients = 8
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	at := e.services["web"]
	switch {
	case p == nil:
	case p.has("web"):
		at = p.listens["web"]
	default:
		transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: p.listens["http"]})
	}
	client := http.Client{Transport: transport, Timeout: within}
	return divide(n, clients, repeat(func() error {
		response, err := client.Get("http://" + at + "/")
		if err != nil {
			return err
		}
		size, err := io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || size != objectSize {
			return fmt.Errorf("got %s and %d bytes: %w", response.Status, size, cmp.Or(err, errRefused))
		}
		return nil
	}))
}

// streams moves n MiB over so many connections.
func streams(concurrency int, move func(net.Conn, int64) error) func(*environment, *proxy, int) error {
	return func(e *environment, p *proxy, n int) error {
		return divide(n, concurrency, func(n int) error {
			conn, err := e.dial(p, "bulk")
			if err != nil {
				return err
			}
			defer conn.Close()
			return move(conn, int64(n)<<20)
		})
	}
}

// What the bulk service is told first: what to send, and to take, each as a count of bytes.
type order struct{ Send, Take int64 }

func download(conn net.Conn, size int64) error {
	if err := binary.Write(conn, binary.BigEndian, order{Send: size}); err != nil {
		return err
	}
	return take(conn, size)
}

// upload ends when the server tells that it has everything.
func upload(conn net.Conn, size int64) error {
	if err := binary.Write(conn, binary.BigEndian, order{Send: 1, Take: size}); err != nil {
		return err
	}
	if err := send(conn, size); err != nil {
		return err
	}
	return take(conn, 1)
}

func serveBulk(conn net.Conn) error {
	var o order
	if err := binary.Read(conn, binary.BigEndian, &o); err != nil {
		return err
	}
	if err := take(conn, o.Take); err != nil {
		return err
	}
	return send(conn, o.Send)
}

const chunk = 256 << 10

func send(conn net.Conn, size int64) error {
	for buf := make([]byte, chunk); size > 0; {
		n, err := conn.Write(buf[:min(size, chunk)])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

func take(conn net.Conn, size int64) error {
	for buf := make([]byte, chunk); size > 0; {
		n, err := conn.Read(buf[:min(size, chunk)])
		if err != nil {
			return fmt.Errorf("%d bytes are missing: %w", size, err)
		}
		size -= int64(n)
	}
	return nil
}

func serveEcho(conn net.Conn) error {
	for buf := make([]byte, 64); ; {
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return err
		}
	}
}

// objectSize is that of a small object: most of a request's cost is not in its bytes.
const objectSize = 512

// serve runs the three services until t ends, and returns where they listen.
func serve(t testing.TB) map[string]string {
	t.Helper()
	object := bytes.Repeat([]byte{'x'}, objectSize)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(object) // the client notices
	}))
	t.Cleanup(web.Close)
	services := map[string]string{"web": web.Listener.Addr().String()}
	for name, handle := range map[string]func(net.Conn) error{"echo": serveEcho, "bulk": serveBulk} {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		must(t, err)
		t.Cleanup(func() { l.Close() })
		services[name] = l.Addr().String()
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					_ = handle(conn) // a client that leaves early is part of the load, and sees its own error
				}()
			}
		}()
	}
	return services
}

// open returns that many sessions, each used for a byte both ways, and those that were opened before an error.
func (e *environment) open(p *proxy, sessions int) ([]*net.TCPConn, error) {
	conns := make([]*net.TCPConn, 0, sessions)
	for range sessions {
		conn, err := e.dial(p, "echo")
		if err != nil {
			return conns, err
		}
		conns = append(conns, conn)
		if err := trip(conn); err != nil {
			return conns, err
		}
	}
	return conns, nil
}

func closeAll(conns []*net.TCPConn) {
	for _, conn := range conns {
		conn.Close()
	}
}
