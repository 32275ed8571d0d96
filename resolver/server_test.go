package resolver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ample is a time-out that only a broken test reaches.
const ample = 20 * time.Second

// startServer runs a DNS server on loopback, UDP and TCP on one port, until the test ends.
func startServer(t testing.TB, handler dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	udp, tcp := listenBoth(t)
	started := make(chan struct{}, 2)
	for _, s := range []*dns.Server{{PacketConn: udp}, {Listener: tcp}} {
		s.Handler = handler
		s.NotifyStartedFunc = func() { started <- struct{}{} }
		done := make(chan error, 1)
		go func() { done <- s.ActivateAndServe() }()
		t.Cleanup(func() {
			if err := s.Shutdown(); err != nil {
				t.Errorf("shut the DNS server down: %v", err)
			}
			if err := <-done; err != nil {
				t.Errorf("DNS server: %v", err)
			}
		})
	}
	<-started
	<-started
	return tcp.Addr().(*net.TCPAddr).AddrPort()
}

// listenBoth finds a port that is free for UDP and for TCP.
func listenBoth(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	var last error
	for range 50 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			return udp, tcp
		}
		last = errors.Join(err, tcp.Close())
	}
	t.Fatal(last)
	return nil, nil
}

// records answers with those of lines whose type is asked for, and their CNAMEs; NXDOMAIN where no line is owned
// by the name.
func records(t testing.TB, lines ...string) dns.HandlerFunc {
	t.Helper()
	var all []dns.RR
	for _, line := range lines {
		all = append(all, mustRR(t, line))
	}
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := reply(q)
		known := false
		for _, rr := range all {
			known = known || strings.EqualFold(rr.Header().Name, q.Question[0].Name)
			if rr.Header().Rrtype == q.Question[0].Qtype || rr.Header().Rrtype == dns.TypeCNAME {
				m.Answer = append(m.Answer, rr)
			}
		}
		if !known {
			m.Rcode, m.Answer = dns.RcodeNameError, nil
		}
		send(w, m)
	}
}

func mustRR(t testing.TB, line string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(line)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

// reply is an empty answer to q of a server that resolves for others.
func reply(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	return m
}

// send ignores errors: a client may have gone, which its test then notices.
func send(w dns.ResponseWriter, m *dns.Msg) { _ = w.WriteMsg(m) }

func withCode(code int) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := reply(q)
		m.Rcode = code
		send(w, m)
	}
}

// silent hears everything and says nothing.
func silent(dns.ResponseWriter, *dns.Msg) {}

func counted(n *atomic.Int32, h dns.HandlerFunc) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		n.Add(1)
		h(w, q)
	}
}

// byType answers A and AAAA questions differently.
func byType(a, aaaa dns.HandlerFunc) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		if q.Question[0].Qtype == dns.TypeA {
			a(w, q)
		} else {
			aaaa(w, q)
		}
	}
}

// noHosts is a hosts file without names.
func noHosts(t testing.TB) string {
	t.Helper()
	return writeHosts(t, filepath.Join(t.TempDir(), "hosts"), "")
}

func writeHosts(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// newResolver makes a Resolver that reads no hosts file unless told to, and closes it when the test ends.
func newResolver(t testing.TB, c Config) *Resolver {
	t.Helper()
	if c.HostsFile == "" {
		c.HostsFile = noHosts(t)
	}
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// asking makes a Resolver that asks servers, and waits amply.
func asking(t testing.TB, servers ...netip.AddrPort) *Resolver {
	t.Helper()
	return newResolver(t, Config{Servers: servers, RetryAfter: ample, Timeout: ample})
}

// wantAddrs looks host up and compares the addresses, in their order.
func wantAddrs(t testing.TB, r *Resolver, host string, want ...string) {
	t.Helper()
	got, err := r.Lookup(context.Background(), host)
	if err != nil {
		t.Errorf("Lookup(%q): %v; want %v", host, err, want)
		return
	}
	texts := make([]string, len(got))
	for i, addr := range got {
		texts[i] = addr.String()
	}
	if !slices.Equal(texts, want) {
		t.Errorf("Lookup(%q) = %v, want %v", host, texts, want)
	}
}

// wantError looks host up and returns the error, which must be an *Error about host that wraps want, if not nil,
// and is ErrNotFound only if that was wanted; it tells so itself.
func wantError(t testing.TB, r *Resolver, host string, want error) error {
	t.Helper()
	got, err := r.Lookup(context.Background(), host)
	if err == nil {
		t.Fatalf("Lookup(%q) = %v, want the error %v", host, got, want)
	}
	var typed *Error
	if !errors.As(err, &typed) || typed.Host != host {
		t.Errorf("Lookup(%q): %#v is not an *Error about it", host, err)
	}
	if want != nil && !errors.Is(err, want) {
		t.Errorf("Lookup(%q): %v, want %v", host, err, want)
	}
	final := errors.Is(want, ErrNotFound) || errors.Is(want, ErrInvalidName)
	if errors.Is(err, ErrNotFound) != errors.Is(want, ErrNotFound) || typed != nil && typed.NotFound() != final {
		t.Errorf("Lookup(%q): %v: wrongly told found or not", host, err)
	}
	return err
}

// wantAsked compares how many questions a server has heard.
func wantAsked(t testing.TB, n *atomic.Int32, want int32, when string) {
	t.Helper()
	if got := n.Load(); got != want {
		t.Errorf("%s the server had heard %d questions, want %d", when, got, want)
	}
}
