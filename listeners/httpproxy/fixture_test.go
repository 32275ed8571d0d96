package httpproxy

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dispatch/dispatcher"
	"dispatch/dispatcher/policy"
	"dispatch/dispatcher/uplink"
	"dispatch/listeners"
	"dispatch/listeners/httpproxy/origin"
	"dispatch/testdata/loopback"
)

// fixture is a gateway with this package's Handler for HTTP: all parts are the real ones. Names are those of the zone,
// the uplink is one that reaches nothing, and the origins are on loopback, which is dialled directly.
type fixture struct {
	t          testing.TB
	dispatcher *dispatcher.Dispatcher
	policy     policy.Local
	handler    *Handler
	server     *listeners.Server
	at         netip.AddrPort
	records    *records
}

type fixtureConfig struct {
	zone      map[string]string // beyond "origin", which is 127.0.0.1
	resolver  dispatcher.Resolver
	uplinks   *uplink.Fleet // instead of one that reaches nothing
	handshake time.Duration
	timeout   time.Duration // of connecting
	wrap      func(listeners.Handler) listeners.Handler
	limits    limits // instead of the default ones, where not 0
	origins   origin.Config
	quiet     bool // no records
	own       http.Handler
}

func start(t testing.TB, c fixtureConfig) *fixture {
	t.Helper()
	f := &fixture{t: t, records: &records{}}
	resolver := c.resolver
	if resolver == nil {
		resolver = dispatcher.ResolverFunc(func(_ context.Context, host string) ([]netip.Addr, error) {
			if addr, ok := c.zone[host]; ok {
				return []netip.Addr{netip.MustParseAddr(addr)}, nil
			}
			if host == "origin" {
				return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
			}
			return nil, nil
		})
	}
	if c.uplinks == nil {
		c.uplinks = loopback.Fleet(t)
	}
	log := slog.New(f.records)
	if c.quiet {
		log = slog.New(slog.DiscardHandler)
	}
	f.dispatcher = dispatcher.New(dispatcher.Config{
		Fleet: c.uplinks, Resolver: resolver, Policy: &f.policy, Logger: log, ConnectTimeout: c.timeout,
	})
	f.handler = New(Config{Dispatcher: f.dispatcher, Own: c.own, Logger: log, HandshakeTimeout: c.handshake})
	// Times that no test means to reach are longer than a busy machine can take.
	f.handler.limits = limits{
		ended:  cmp.Or(c.limits.ended, loopback.Patience),
		linger: cmp.Or(c.limits.linger, loopback.Patience),
	}
	f.handler.origins = origin.New(origin.Config{
		Dispatcher: f.dispatcher, Logger: log,
		Proceed: cmp.Or(c.origins.Proceed, loopback.Patience), UnsafeIdle: cmp.Or(c.origins.UnsafeIdle, loopback.Patience),
	})
	var handler listeners.Handler = f.handler
	if c.wrap != nil {
		handler = c.wrap(handler)
	}
	f.server = listeners.New(listeners.Config{HTTP: handler, Logger: log, HandshakeTimeout: c.handshake})
	at, err := f.server.Listen(t.Context(), listeners.HTTP, netip.MustParseAddrPort("127.0.0.1:0"), dispatcher.Profile{})
	if err != nil {
		t.Fatal(err)
	}
	f.at = at
	f.policy.Protect(at)
	f.server.Start()
	t.Cleanup(f.close)
	return f
}

func (f *fixture) close() {
	f.server.Close()
	if err := f.handler.Close(); err != nil {
		f.t.Errorf("closing the handler: %v", err)
	}
}

// records is a log that keeps what was logged.
type records struct {
	mu  sync.Mutex
	all []record
}

type record struct {
	level   slog.Level
	message string
	attrs   map[string]slog.Value
}

func (r *records) Enabled(context.Context, slog.Level) bool { return true }
func (r *records) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *records) WithGroup(string) slog.Handler            { return r }

func (r *records) Handle(_ context.Context, from slog.Record) error {
	to := record{from.Level, from.Message, make(map[string]slog.Value)}
	from.Attrs(func(a slog.Attr) bool {
		to.attrs[a.Key] = a.Value
		return true
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, to)
	return nil
}

func (r *records) with(message string) []record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.all), func(r record) bool { return r.message != message })
}

func (r *records) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = nil
}

// sessions waits until n sessions have ended, and fails when there are more.
func (f *fixture) sessions(n int) []record {
	f.t.Helper()
	f.eventually(fmt.Sprintf("%d sessions have ended", n), func() bool { return len(f.records.with("session closed")) >= n })
	all := f.records.with("session closed")
	if len(all) != n {
		f.t.Fatalf("%d sessions ended, want %d: %v", len(all), n, all)
	}
	return all
}

// session waits for the only session's end.
func (f *fixture) session() record {
	f.t.Helper()
	return f.sessions(1)[0]
}

func (r record) class() dispatcher.Class { return dispatcher.Class(r.attrs["class"].String()) }

// clients is the number of connections that the handler knows.
func (f *fixture) clients() int {
	f.handler.mu.Lock()
	defer f.handler.mu.Unlock()
	return len(f.handler.conns)
}

func (f *fixture) eventually(what string, ok func() bool) {
	f.t.Helper()
	loopback.Eventually(f.t, what, ok)
}

// originServer is a server that is asked for by name.
type originServer struct {
	at   netip.AddrPort
	port string
}

// peer is one end of a connection, with a buffer to read lines from. Its methods fail the test.
type peer struct {
	*net.TCPConn
	t  testing.TB
	br *bufio.Reader
}

func newPeer(t testing.TB, conn *net.TCPConn) *peer {
	t.Helper()
	p := &peer{TCPConn: conn, t: t, br: bufio.NewReader(conn)}
	p.must(conn.SetDeadline(time.Now().Add(loopback.Patience)))
	return p
}

// newOrigin serves each of its connections with serve, which need not close them.
func newOrigin(t testing.TB, serve func(*peer)) originServer {
	t.Helper()
	at := loopback.Serve(t, func(conn *net.TCPConn) error {
		serve(newPeer(t, conn))
		return nil
	})
	return originServer{at, strconv.Itoa(int(at.Port()))}
}

func (o originServer) host() string { return "origin:" + o.port }
func (o originServer) url() string  { return "http://" + o.host() }

// client connects to the gateway.
func (f *fixture) client() *peer {
	f.t.Helper()
	return newPeer(f.t, loopback.Dial(f.t, f.at))
}

// must is for goroutines, too. What the end of the test has closed is no failure.
func (p *peer) must(err error) {
	if err != nil && !errors.Is(err, net.ErrClosed) {
		p.t.Helper()
		p.t.Error(err)
	}
}

func (p *peer) end() {
	p.must(p.Close())
}

func (p *peer) send(text string) {
	p.t.Helper()
	_, err := io.WriteString(p.TCPConn, text)
	p.must(err)
}

// reset closes with a reset.
func (p *peer) reset() {
	p.t.Helper()
	p.must(loopback.Reset(p.TCPConn))
}

// expect reads exactly text.
func (p *peer) expect(text string) {
	p.t.Helper()
	got := make([]byte, len(text))
	n, err := io.ReadFull(p.br, got)
	if err != nil || string(got) != text {
		p.t.Errorf("read %q (%v), want %q", got[:n], err, text)
	}
}

// head reads a message's head.
func (p *peer) head() string {
	p.t.Helper()
	var head strings.Builder
	for {
		line, err := p.br.ReadString('\n')
		head.WriteString(line)
		if err != nil {
			p.t.Errorf("reading a head: %v after %q", err, head.String())
			return head.String()
		}
		if line == "\r\n" {
			return head.String()
		}
	}
}

// rest reads to the end.
func (p *peer) rest() (string, error) {
	all, err := io.ReadAll(p.br)
	if errors.Is(err, net.ErrClosed) {
		err = nil // by the end of the test
	}
	return string(all), err
}

// whole reads to a clean end.
func (p *peer) whole() string {
	p.t.Helper()
	all, err := p.rest()
	p.must(err)
	return all
}

// response reads a response with its body.
func (p *peer) response(method string) (*http.Response, string) {
	p.t.Helper()
	resp, err := http.ReadResponse(p.br, &http.Request{Method: method})
	if err != nil {
		p.t.Fatalf("reading a response: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("reading a response's body: %v after %q", err, body)
	}
	return resp, string(body)
}

// answering serves requests on a connection: it reads a head and sends back what answer makes of it, until answer
// returns an empty text, or the client has left.
func answering(answer func(head string) string) func(*peer) {
	return func(p *peer) {
		for {
			if _, err := p.br.Peek(1); err != nil {
				return
			}
			text := answer(p.head())
			if text == "" {
				return
			}
			p.send(text)
		}
	}
}

// hello answers every request alike.
func hello(*testing.T) func(*peer) {
	return answering(func(string) string { return ok("hello") })
}

// ok is a response with a body.
func ok(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// get is a request for the origin's root.
func get(o originServer, fields ...string) string {
	request := "GET " + o.url() + "/ HTTP/1.1\r\nHost: " + o.host() + "\r\n"
	for _, field := range fields {
		request += field + "\r\n"
	}
	return request + "\r\n"
}

// wantReset fails unless the connection ended with a reset.
func wantReset(t testing.TB, err error) {
	t.Helper()
	if err == nil || !loopback.IsReset(err) {
		t.Errorf("the connection ended with %v, want a reset", err)
	}
}
