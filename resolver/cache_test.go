package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/dns/dnsmessage"
)

// TestKeeping checks for how long answers are kept. The server is real and outside the bubble; inside, where the
// resolver is, an hour passes in no time as soon as no answer is being waited for.
func TestKeeping(t *testing.T) {
	servfail := withCode(dns.RcodeServerFailure)
	for name, test := range map[string]struct {
		handler dns.HandlerFunc
		kept    time.Duration
		asks    int32 // questions to answer one lookup
		want    error
	}{
		"no TTL":      {records(t, "name.test. 0 A 192.0.2.1"), time.Second, 2, nil},
		"of the name": {records(t, "name.test. 77 A 192.0.2.1"), 77 * time.Second, 2, nil},
		"least of all": {records(t, "name.test. 90 A 192.0.2.1", "name.test. 99 AAAA 2001:db8::1", "name.test. 80 A 192.0.2.2"),
			80 * time.Second, 2, nil},
		"least of an alias": {records(t, "name.test. 50 CNAME a.test.", "a.test. 40 CNAME b.test.", "b.test. 99 A 192.0.2.1"),
			40 * time.Second, 2, nil},
		"not of others":         {records(t, "name.test. 60 A 192.0.2.1", "other.test. 5 A 192.0.2.1"), time.Minute, 2, nil},
		"a week":                {records(t, "name.test. 604800 A 192.0.2.1"), time.Hour, 2, nil},
		"top bit set":           {records(t, "name.test. 2147483648 A 192.0.2.1"), time.Second, 2, nil},
		"NXDOMAIN":              {withCode(dns.RcodeNameError), 10 * time.Second, 2, ErrNotFound},
		"no address":            {records(t, "name.test. 60 TXT none"), 10 * time.Second, 2, ErrNotFound},
		"one failed":            {byType(records(t, "name.test. 3600 A 192.0.2.1"), servfail), 10 * time.Second, 1 + rounds, nil},
		"one failed, short TTL": {byType(records(t, "name.test. 3 A 192.0.2.1"), servfail), 3 * time.Second, 1 + rounds, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			server := startServer(t, counted(&asked, test.handler))
			hosts := noHosts(t)
			synctest.Test(t, func(t *testing.T) {
				r := newResolver(t, Config{Servers: []netip.AddrPort{server}, HostsFile: hosts, RetryAfter: ample, Timeout: ample})
				ask := func() {
					t.Helper()
					if _, err := r.Lookup(context.Background(), "name.test"); !errors.Is(err, test.want) {
						t.Fatal(err)
					}
				}
				ask()
				wantAsked(t, &asked, test.asks, "at first")
				time.Sleep(test.kept / 2)
				ask() // which must not prolong it
				time.Sleep(test.kept/2 - 50*time.Millisecond)
				ask()
				wantAsked(t, &asked, test.asks, "just before the end")
				time.Sleep(100 * time.Millisecond)
				ask()
				wantAsked(t, &asked, 2*test.asks, "just after the end")
			})
		})
	}
}

// TestExpiredOnArrival: a family whose TTL is over when the late one has come is kept for the least time, not
// for ever, which is what the cache takes a TTL of 0 or less for.
func TestExpiredOnArrival(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newResolver(t, Config{})
		early := half{qtype: dnsmessage.TypeA, addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, expires: time.Now().Add(2 * time.Second)}
		for _, wait := range []time.Duration{2 * time.Second, time.Second} {
			time.Sleep(wait) // then the early one is over since 0 s, and 2 s
			late := half{qtype: dnsmessage.TypeAAAA, addrs: []netip.Addr{netip.MustParseAddr("2001:db8::1")}, expires: time.Now().Add(time.Hour)}
			r.keep("name.test", early, late)
			time.Sleep(900 * time.Millisecond)
			if e, known := r.cache.get("name.test"); !known || len(e.addrs) != 2 {
				t.Errorf("after 0.9 s: %v, %v", e.addrs, known)
			}
			time.Sleep(200 * time.Millisecond)
			if e, known := r.cache.get("name.test"); known {
				t.Errorf("after 1.1 s: %v is still kept", e.addrs)
			}
		}
	})
}

// TestFailureNotKept: that nobody could answer is not remembered, and is not the answer that there is nothing.
func TestFailureNotKept(t *testing.T) {
	t.Parallel()
	nodata := func(w dns.ResponseWriter, q *dns.Msg) { send(w, reply(q)) }
	for name, failing := range map[string]dns.HandlerFunc{
		"both":          withCode(dns.RcodeServerFailure),
		"one, other no": byType(nodata, withCode(dns.RcodeServerFailure)),
		"one, other NX": byType(withCode(dns.RcodeServerFailure), withCode(dns.RcodeNameError)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var healed atomic.Bool
			truth := records(t, "name.test. 60 A 192.0.2.1")
			server := startServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
				if healed.Load() {
					truth(w, q)
					return
				}
				failing(w, q)
			})
			r := asking(t, server)
			_ = wantError(t, r, "name.test", nil)
			healed.Store(true)
			wantAddrs(t, r, "name.test", "192.0.2.1")
		})
	}
}

func TestSystemKeeping(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		addrs []netip.Addr
		err   error
		kept  time.Duration // 0: not at all
		want  error
	}{
		"addresses": {[]netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil, 30 * time.Second, nil},
		"not found": {nil, &net.DNSError{Err: "no such host", IsNotFound: true}, 10 * time.Second, ErrNotFound},
		"none":      {nil, nil, 10 * time.Second, ErrNotFound},
		"failure":   {nil, &net.DNSError{Err: "server misbehaving", IsTemporary: true}, 0, nil},
		"time-out":  {nil, &net.DNSError{Err: "i/o timeout", IsTimeout: true}, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				r := newResolver(t, Config{System: func(_ context.Context, host string) ([]netip.Addr, error) {
					asked++
					if host != "name.test" {
						t.Errorf("the system was asked for %q", host)
					}
					return test.addrs, test.err
				}})
				if test.err == nil && test.want == nil {
					wantAddrs(t, r, "Name.test.", "192.0.2.1")
				} else {
					err := wantError(t, r, "Name.test.", test.want)
					var e *Error
					if errors.As(err, &e) && e.Timeout() != (name == "time-out") {
						t.Errorf("%v: Timeout() = %v", err, e.Timeout())
					}
				}
				again := func(after time.Duration, want int) {
					t.Helper()
					time.Sleep(after)
					if _, err := r.Lookup(context.Background(), "name.test"); (err == nil) != (test.err == nil && test.want == nil) {
						t.Error(err)
					}
					if asked != want {
						t.Errorf("asked %d times, want %d", asked, want)
					}
				}
				if test.kept == 0 {
					again(0, 2)
					return
				}
				again(test.kept-time.Millisecond, 1)
				again(2*time.Millisecond, 2)
			})
		})
	}
}

func TestSystemAddresses(t *testing.T) {
	t.Parallel()
	r := newResolver(t, Config{System: func(context.Context, string) ([]netip.Addr, error) {
		var addrs []netip.Addr
		for _, s := range []string{"2001:db8::2", "::ffff:192.0.2.1", "fe80::1%eth0", "192.0.2.1", "0.0.0.0", "::", "2001:db8::1"} {
			addrs = append(addrs, netip.MustParseAddr(s))
		}
		return append(addrs, netip.Addr{}), nil
	}})
	wantAddrs(t, r, "name.test", "2001:db8::2", "192.0.2.1", "fe80::1%eth0", "2001:db8::1")
}

func TestSystemTimeout(t *testing.T) {
	t.Parallel()
	r := newResolver(t, Config{Timeout: 10 * time.Millisecond, System: func(ctx context.Context, host string) ([]netip.Addr, error) {
		<-ctx.Done()
		return nil, fmt.Errorf("lookup %s: %w", host, ctx.Err())
	}})
	_ = wantError(t, r, "name.test", context.DeadlineExceeded)
}

// TestSystemResolver asks the real one, for what it answers without a network.
func TestSystemResolver(t *testing.T) {
	t.Parallel()
	r := newResolver(t, Config{})
	e, err := r.askSystem("127.0.0.1")
	if err != nil || len(e.addrs) != 1 || e.addrs[0] != netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
		t.Errorf("got %v, %v", e.addrs, err)
	}
}

func TestCacheBound(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	r := newResolver(t, Config{System: func(context.Context, string) ([]netip.Addr, error) {
		asked.Add(1)
		return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
	}})
	const names = 5000
	for i := range names {
		wantAddrs(t, r, fmt.Sprintf("n%d.test", i), "192.0.2.1")
		wantAddrs(t, r, "used.test", "192.0.2.1")
	}
	if got := r.cache.entries.Len(); got != 4096 {
		t.Errorf("%d names are kept, want 4096", got)
	}
	wantAsked(t, &asked, names+1, "after all names")
	wantAddrs(t, r, fmt.Sprintf("n%d.test", names-4000), "192.0.2.1")
	wantAsked(t, &asked, names+1, "after a late one")
	wantAddrs(t, r, "n0.test", "192.0.2.1")
	wantAsked(t, &asked, names+2, "after the first one")
}

// TestAnswerCameMeanwhile: a caller who saw nothing in the cache just before an equal lookup ended asks no more.
func TestAnswerCameMeanwhile(t *testing.T) {
	t.Parallel()
	r := asksNobody(t)
	want := netip.MustParseAddr("192.0.2.1")
	r.cache.put("name.test", entry{addrs: []netip.Addr{want}}, time.Minute)
	e, err := r.share(context.Background(), "name.test") // as Lookup does after such a look
	if err != nil || len(e.addrs) != 1 || e.addrs[0] != want {
		t.Errorf("got %v, %v", e.addrs, err)
	}
}

func TestSliceIsCallersOwn(t *testing.T) {
	t.Parallel()
	r := newResolver(t, Config{System: func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
	}})
	for range 3 {
		got, err := r.Lookup(context.Background(), "name.test")
		if err != nil || got[0] != netip.MustParseAddr("192.0.2.1") {
			t.Fatalf("got %v, %v", got, err)
		}
		got[0] = netip.IPv4Unspecified()
	}
}

func BenchmarkLookupHit(b *testing.B) {
	r := newResolver(b, Config{Servers: []netip.AddrPort{startServer(b, records(b, "www.example.test. 3600 A 192.0.2.1", "www.example.test. 3600 AAAA 2001:db8::1"))}})
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Lookup(ctx, "www.example.test"); err != nil {
			b.Fatal(err)
		}
	}
}
