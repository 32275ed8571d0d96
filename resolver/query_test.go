package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/dns/dnsmessage"
)

func TestBothFamilies(t *testing.T) {
	t.Parallel()
	server := startServer(t, records(t,
		"dual.test. 60 A 192.0.2.9", "dual.test. 60 A 192.0.2.1", "dual.test. 60 A 192.0.2.9",
		"dual.test. 60 AAAA 2001:db8::9", "dual.test. 60 AAAA 2001:db8::1", "dual.test. 60 AAAA ::ffff:192.0.2.1"))
	r := asking(t, server)
	// IPv6 first, the server's order within a family, a mapped address as what it is, nothing twice.
	wantAddrs(t, r, "dual.test", "2001:db8::9", "2001:db8::1", "192.0.2.1", "192.0.2.9")
}

func TestOneFamilyOnly(t *testing.T) {
	t.Parallel()
	nodata := func(w dns.ResponseWriter, q *dns.Msg) { send(w, reply(q)) }
	v4 := asking(t, startServer(t, byType(records(t, "one.test. 60 A 192.0.2.1"), nodata)))
	wantAddrs(t, v4, "one.test", "192.0.2.1")
	v6 := asking(t, startServer(t, byType(nodata, records(t, "one.test. 60 AAAA 2001:db8::1"))))
	wantAddrs(t, v6, "one.test", "2001:db8::1")
	// Some servers deny a whole name because of one family (RFC 4074 section 4.2).
	denied := asking(t, startServer(t, byType(records(t, "one.test. 60 A 192.0.2.1"), withCode(dns.RcodeNameError))))
	wantAddrs(t, denied, "one.test", "192.0.2.1")
}

func TestQuestion(t *testing.T) {
	t.Parallel()
	type heard struct {
		msg  *dns.Msg
		port int
	}
	questions := make(chan heard, 2)
	var both sync.WaitGroup
	both.Add(2)
	answer := records(t, "name.test. 60 A 192.0.2.1", "name.test. 60 AAAA 2001:db8::1")
	server := startServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		questions <- heard{q, w.RemoteAddr().(*net.UDPAddr).Port}
		both.Done()
		both.Wait() // neither is answered before the other is asked: they are asked at once
		answer(w, q)
	})
	wantAddrs(t, asking(t, server), "NAME.test.", "2001:db8::1", "192.0.2.1")
	a, b := <-questions, <-questions
	if a.port == b.port {
		t.Errorf("both questions came from port %d, want a fresh one each", a.port)
	}
	for _, q := range []heard{a, b} {
		opt := q.msg.IsEdns0()
		if opt == nil || opt.UDPSize() != 1232 || opt.Version() != 0 {
			t.Errorf("EDNS: %v, want version 0 with 1232 bytes", opt)
		}
		if !q.msg.RecursionDesired || q.msg.Question[0].Name != "name.test." || q.msg.Question[0].Qclass != dns.ClassINET {
			t.Errorf("question %v", q.msg)
		}
	}
	if a.msg.Question[0].Qtype == b.msg.Question[0].Qtype {
		t.Errorf("the same type was asked for twice")
	}
}

func TestRandomIDs(t *testing.T) {
	t.Parallel()
	ids := make(map[uint16]bool)
	for range 64 {
		query, err := newQuery("name.test", dnsmessage.TypeA, true)
		if err != nil {
			t.Fatal(err)
		}
		ids[uint16(query[0])<<8|uint16(query[1])] = true
	}
	if len(ids) < 60 { // 64 out of 65,536 hardly ever meet, and counting on gives 64 of one run
		t.Errorf("64 questions had %d IDs", len(ids))
	}
	runs := 0
	for id := range ids {
		if ids[id+1] {
			runs++
		}
	}
	if runs > 8 {
		t.Errorf("%d of 64 IDs follow another", runs)
	}
}

func TestNotFound(t *testing.T) {
	t.Parallel()
	server := startServer(t, records(t, "other.test. 60 A 192.0.2.1", "text.test. 60 TXT hello"))
	r := asking(t, server)
	for _, host := range []string{"none.test", "text.test"} {
		err := wantError(t, r, host, ErrNotFound)
		var by *ServerError
		if !errors.As(err, &by) || by.Server != server {
			t.Errorf("%v does not name the server %v", err, server)
		}
		var e *Error
		if errors.As(err, &e) && e.Timeout() {
			t.Errorf("%v is told to be a time-out", err)
		}
	}
}

func TestTruncated(t *testing.T) {
	t.Parallel()
	var lines, want []string
	for i := range 100 {
		addr := fmt.Sprintf("2001:db8::%x", i+1)
		lines, want = append(lines, "big.test. 60 AAAA "+addr), append(want, addr)
	}
	lines, want = append(lines, "big.test. 60 A 192.0.2.1"), append(want, "192.0.2.1")
	full := records(t, lines...)
	var overTCP atomic.Int32
	server := startServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if w.RemoteAddr().Network() == "tcp" {
			overTCP.Add(1)
			full(w, q)
			return
		}
		m := reply(q)
		if q.Question[0].Qtype == dns.TypeAAAA {
			m.Truncated = true
			m.Answer = []dns.RR{mustRR(t, "big.test. 60 AAAA 2001:db8::bad")}
			send(w, m)
			return
		}
		full(w, q)
	})
	wantAddrs(t, asking(t, server), "big.test", want...)
	wantAsked(t, &overTCP, 1, "over TCP")
}

// TestForged sends what an attacker would before the true answer.
func TestForged(t *testing.T) {
	t.Parallel()
	forge := func(change func(*dns.Msg)) func(*dns.Msg) *dns.Msg {
		return func(q *dns.Msg) *dns.Msg {
			m := reply(q)
			m.Answer = []dns.RR{mustRR(t, "real.test. 60 A 203.0.113.66"), mustRR(t, "real.test. 60 AAAA 2001:db8::66")}
			change(m)
			return m
		}
	}
	forgeries := []func(*dns.Msg) *dns.Msg{
		forge(func(m *dns.Msg) { m.Id++ }),
		forge(func(m *dns.Msg) { m.Id ^= 0x0100 }),
		forge(func(m *dns.Msg) { m.Question[0].Name = "fake.test." }),
		forge(func(m *dns.Msg) { m.Question[0].Name = "real.test.evil." }),
		forge(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeTXT }),
		forge(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }),
		forge(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }),
		forge(func(m *dns.Msg) { m.Question = nil }),
		forge(func(m *dns.Msg) { m.Question, m.Rcode = nil, dns.RcodeNameError }),
		forge(func(m *dns.Msg) { m.Response = false }),
		forge(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }),
	}
	spray := func(w dns.ResponseWriter, q *dns.Msg) {
		for _, forgery := range forgeries {
			send(w, forgery(q))
		}
		for _, junk := range [][]byte{{}, {0}, make([]byte, 11), make([]byte, 600), make([]byte, 9000)} {
			_, _ = w.Write(junk)
		}
	}
	truth := records(t, "real.test. 60 A 192.0.2.1", "real.test. 60 AAAA 2001:db8::1")
	server := startServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		spray(w, q)
		truth(w, q)
	})
	wantAddrs(t, asking(t, server), "real.test", "2001:db8::1", "192.0.2.1")

	liar := startServer(t, spray)
	r := newResolver(t, Config{Servers: []netip.AddrPort{liar}, RetryAfter: 100 * time.Millisecond, Timeout: time.Second})
	_ = wantError(t, r, "real.test", context.DeadlineExceeded)
}

func TestQuestionInOtherCase(t *testing.T) {
	t.Parallel()
	server := startServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := reply(q)
		m.Question[0].Name = "CASE.Test."
		if q.Question[0].Qtype == dns.TypeA {
			m.Answer = []dns.RR{mustRR(t, "cAsE.tEsT. 60 A 192.0.2.1")}
		}
		send(w, m)
	})
	wantAddrs(t, asking(t, server), "case.test", "192.0.2.1")
}

// TestOverTCPForged: over TCP there is no other reply to wait for.
func TestOverTCPForged(t *testing.T) {
	t.Parallel()
	good := startServer(t, records(t, "name.test. 60 A 192.0.2.1"))
	bad := startServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := reply(q)
		if w.RemoteAddr().Network() == "udp" {
			m.Truncated = true
		} else {
			m.Id++
		}
		send(w, m)
	})
	wantAddrs(t, asking(t, bad, good), "name.test", "192.0.2.1")
}

// TestNextServer: what makes the next server be asked, and at once.
func TestNextServer(t *testing.T) {
	t.Parallel()
	refuseTCP := func(w dns.ResponseWriter, q *dns.Msg) {
		m := reply(q)
		m.Truncated = true
		if w.RemoteAddr().Network() == "tcp" {
			_ = w.Close()
			return
		}
		send(w, m)
	}
	raw := func(change func([]byte) []byte) dns.HandlerFunc {
		return func(w dns.ResponseWriter, q *dns.Msg) {
			m := reply(q)
			m.Answer = []dns.RR{mustRR(t, "name.test. 60 A 203.0.113.66"), mustRR(t, "name.test. 60 AAAA 2001:db8::66")}
			b, err := m.Pack()
			if err != nil {
				t.Error(err)
			}
			_, _ = w.Write(change(b))
		}
	}
	bare := func(code int) dns.HandlerFunc {
		return func(w dns.ResponseWriter, q *dns.Msg) {
			m := reply(q)
			m.Rcode, m.Question = code, nil
			send(w, m)
		}
	}
	for name, first := range map[string]dns.HandlerFunc{
		"servfail":                  withCode(dns.RcodeServerFailure),
		"refused":                   withCode(dns.RcodeRefused),
		"formerr, EDNS or not":      withCode(dns.RcodeFormatError),
		"notimp, EDNS or not":       withCode(dns.RcodeNotImplemented),
		"unknown code":              withCode(13),
		"servfail without question": bare(dns.RcodeServerFailure),
		"referral": func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg).SetReply(q)
			m.Ns = []dns.RR{mustRR(t, "test. 60 NS ns.test.")}
			send(w, m)
		},
		"TCP refused": refuseTCP,
		"cut":         raw(func(b []byte) []byte { return b[:len(b)-3] }),
		"cut between records": raw(func(b []byte) []byte {
			b[7]++
			return b
		}),
		"alias circle": func(w dns.ResponseWriter, q *dns.Msg) {
			m := reply(q)
			m.Answer = []dns.RR{mustRR(t, "name.test. 60 CNAME b.test."), mustRR(t, "b.test. 60 CNAME name.test.")}
			send(w, m)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			bad := startServer(t, counted(&asked, first))
			good := startServer(t, records(t, "name.test. 60 A 192.0.2.1", "name.test. 60 AAAA 2001:db8::1"))
			wantAddrs(t, asking(t, bad, good), "name.test", "2001:db8::1", "192.0.2.1")
			// A family that is asked for a moment later begins with the server that has answered meanwhile.
			if asked.Load() == 0 {
				t.Error("the first server was not asked")
			}
			alone := asking(t, bad)
			err := wantError(t, alone, "name.test", nil)
			var by *ServerError
			if !errors.As(err, &by) || by.Server != bad {
				t.Errorf("%v does not name the server %v", err, bad)
			}
		})
	}
}

func TestEDNSRefused(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]int{"formerr": dns.RcodeFormatError, "notimp": dns.RcodeNotImplemented} {
		for _, bare := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " bare=", bare), func(t *testing.T) {
				t.Parallel()
				truth := records(t, "old.test. 60 A 192.0.2.1")
				server := startServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
					if q.IsEdns0() == nil {
						truth(w, q)
						return
					}
					m := reply(q)
					m.Rcode = code
					if bare {
						m.Question = nil
					}
					send(w, m)
				})
				wantAddrs(t, asking(t, server), "old.test", "192.0.2.1")
			})
		}
	}
}

// TestDeadServer: the next server is asked after one time-out, and then kept.
func TestDeadServer(t *testing.T) {
	t.Parallel()
	var dead, alive atomic.Int32
	r := newResolver(t, Config{
		Servers: []netip.AddrPort{
			startServer(t, counted(&dead, silent)),
			startServer(t, counted(&alive, records(t, "a.test. 60 A 192.0.2.1", "a.test. 60 AAAA 2001:db8::1",
				"b.test. 60 A 192.0.2.1", "b.test. 60 AAAA 2001:db8::1"))),
		},
		RetryAfter: time.Second, Timeout: ample,
	})
	if _, err := r.Lookup(context.Background(), "a.test"); err != nil {
		t.Fatal(err)
	}
	wantAsked(t, &dead, 2, "after the first lookup the dead server:")
	if _, err := r.Lookup(context.Background(), "b.test"); err != nil {
		t.Fatal(err)
	}
	wantAsked(t, &dead, 2, "after the second lookup the dead server:")
}

func TestClosedPort(t *testing.T) {
	t.Parallel()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	good := startServer(t, records(t, "name.test. 60 A 192.0.2.1"))
	// The time-out is for systems that do not tell a socket of ICMP errors.
	r := newResolver(t, Config{Servers: []netip.AddrPort{closed, good}, RetryAfter: time.Second})
	wantAddrs(t, r, "name.test", "192.0.2.1")
}

// TestRefusedNameKeepsServer: a server that fails for one name stays the first to be asked.
func TestRefusedNameKeepsServer(t *testing.T) {
	t.Parallel()
	var second atomic.Int32
	broken, truth := withCode(dns.RcodeServerFailure), records(t, "good.test. 60 A 192.0.2.1")
	r := asking(t,
		startServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
			if q.Question[0].Name == "broken.test." {
				broken(w, q)
				return
			}
			truth(w, q)
		}),
		startServer(t, counted(&second, records(t, "broken.test. 60 A 192.0.2.2", "good.test. 60 A 192.0.2.3"))))
	wantAddrs(t, r, "broken.test", "192.0.2.2")
	wantAddrs(t, r, "good.test", "192.0.2.1")
	wantAsked(t, &second, 2, "after both lookups the second server:")
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := startServer(t, counted(&asked, silent))
	r := newResolver(t, Config{Servers: []netip.AddrPort{server}, RetryAfter: 100 * time.Millisecond, Timeout: time.Second})
	err := wantError(t, r, "name.test", context.DeadlineExceeded)
	var timeout interface{ Timeout() bool }
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%v is not told to be a time-out", err)
	}
	var by *ServerError
	if !errors.As(err, &by) || by.Server != server {
		t.Errorf("%v does not name the server", err)
	}
	if got := asked.Load(); got != 2*rounds {
		t.Errorf("asked %d times, want %d for each family", got, rounds)
	}

	hurried := newResolver(t, Config{Servers: []netip.AddrPort{server}, RetryAfter: ample, Timeout: 100 * time.Millisecond})
	_ = wantError(t, hurried, "name.test", context.DeadlineExceeded)
}

// TestSlowServer: an answer that comes after the question was asked again is taken all the same.
func TestSlowServer(t *testing.T) {
	t.Parallel()
	truth := records(t, "name.test. 60 A 192.0.2.1")
	again := map[uint16]chan struct{}{dns.TypeA: make(chan struct{}), dns.TypeAAAA: make(chan struct{})}
	var asked [dns.TypeAAAA + 1]atomic.Int32
	server := startServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		kind := q.Question[0].Qtype
		switch asked[kind].Add(1) {
		case 1:
			<-again[kind]
			truth(w, q)
		case 2:
			close(again[kind])
		}
	})
	r := newResolver(t, Config{Servers: []netip.AddrPort{server}, RetryAfter: 100 * time.Millisecond, Timeout: ample})
	wantAddrs(t, r, "name.test", "192.0.2.1")
}

// TestDial: the caller opens every connection, may wrap it in any net.Conn, and its errors are passed on.
func TestDial(t *testing.T) {
	t.Parallel()
	server := startServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := reply(q)
		if w.RemoteAddr().Network() == "udp" {
			m.Truncated = true
		} else if q.Question[0].Qtype == dns.TypeA {
			m.Answer = []dns.RR{mustRR(t, "name.test. 60 A 192.0.2.1")}
		}
		send(w, m)
	})
	var mu sync.Mutex
	dials := make(map[string]int)
	dial := func(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
		mu.Lock()
		dials[fmt.Sprint(network, " ", to)]++
		mu.Unlock()
		conn, err := dialUnbound(ctx, network, to)
		return struct{ net.Conn }{conn}, err // hides that it is a net.PacketConn
	}
	r := newResolver(t, Config{Servers: []netip.AddrPort{server}, Dialer: func() DialFunc { return dial }, RetryAfter: ample, Timeout: ample})
	wantAddrs(t, r, "name.test", "192.0.2.1")
	if len(dials) != 2 || dials[fmt.Sprint("udp ", server)] != 2 || dials[fmt.Sprint("tcp ", server)] != 2 {
		t.Errorf("dialled %v, want udp and tcp twice", dials)
	}

	var tries atomic.Int32
	r = newResolver(t, Config{
		Servers: []netip.AddrPort{server},
		Dialer: func() DialFunc {
			return func(context.Context, string, netip.AddrPort) (net.Conn, error) {
				tries.Add(1)
				return nil, &net.OpError{Op: "dial", Net: "udp", Err: syscall.ENETUNREACH}
			}
		},
	})
	err := wantError(t, r, "name.test", syscall.ENETUNREACH)
	var e *Error
	if errors.As(err, &e) && e.Timeout() {
		t.Errorf("%v is told to be a time-out", err)
	}
	if got := tries.Load(); got != 2*rounds {
		t.Errorf("dialled %d times, want %d for each family: another line may do", got, rounds)
	}
}

// TestErrorText: every server is named, in one line, and what both families met alike is told once.
func TestErrorText(t *testing.T) {
	t.Parallel()
	failing, refusing := startServer(t, withCode(dns.RcodeServerFailure)), startServer(t, withCode(dns.RcodeRefused))
	err := wantError(t, asking(t, failing, refusing), "Name.test", nil)
	want := fmt.Sprintf(`resolve "Name.test": server %v: answered SERVFAIL (it could not find out; the name's own servers may be down); `+
		`server %v: answered REFUSED (it does not serve this line; a provider's server mostly serves its own lines only)`, failing, refusing)
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}

// TestSecondLine: a line that swallows datagrams costs one try, as the caller's Dialer takes another one then.
func TestSecondLine(t *testing.T) {
	t.Parallel()
	hole := startServer(t, silent)
	server := startServer(t, records(t, "name.test. 60 A 192.0.2.1"))
	r := newResolver(t, Config{
		Servers: []netip.AddrPort{server},
		Dialer: func() DialFunc {
			var calls atomic.Int32
			return func(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
				if calls.Add(1) == 1 {
					to = hole
				}
				return dialUnbound(ctx, network, to)
			}
		},
		RetryAfter: time.Second,
	})
	wantAddrs(t, r, "name.test", "192.0.2.1")
}
