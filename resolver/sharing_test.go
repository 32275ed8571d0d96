package resolver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// gate holds a server's answers back until it is opened.
type gate struct {
	heard chan struct{} // gets a value for every question
	open  func()        // may be called more than once
	wait  <-chan struct{}
}

func newGate(t testing.TB) *gate {
	t.Helper()
	wait := make(chan struct{})
	return &gate{heard: make(chan struct{}, 100), open: sync.OnceFunc(func() { close(wait) }), wait: wait}
}

// serve starts a server behind the gate. It opens the gate when the test ends: the server's end waits for its
// handlers.
func (g *gate) serve(t testing.TB, h dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	server := startServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		g.heard <- struct{}{}
		<-g.wait
		h(w, q)
	})
	t.Cleanup(g.open)
	return server
}

type result struct {
	addrs []netip.Addr
	err   error
}

// lookup starts a lookup that may block.
func lookup(ctx context.Context, r *Resolver, host string) <-chan result {
	done := make(chan result, 1)
	go func() {
		addrs, err := r.Lookup(ctx, host)
		done <- result{addrs, err}
	}()
	return done
}

func TestEqualLookupsAskOnce(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	g := newGate(t)
	r := asking(t, g.serve(t, counted(&asked, records(t, "name.test. 60 A 192.0.2.1", "name.test. 60 AAAA 2001:db8::1"))))
	var all []<-chan result
	for i := range 50 {
		all = append(all, lookup(context.Background(), r, []string{"name.test", "NAME.test", "name.test."}[i%3]))
	}
	<-g.heard
	g.open()
	seen := make(map[*netip.Addr]bool)
	for _, done := range all {
		got := <-done
		if got.err != nil || len(got.addrs) != 2 {
			t.Fatalf("got %v, %v", got.addrs, got.err)
		}
		seen[&got.addrs[0]] = true
	}
	wantAsked(t, &asked, 2, "after 50 lookups of one name")
	if len(seen) != len(all) {
		t.Errorf("%d callers share %d slices, want one each", len(all), len(seen))
	}
}

// TestCallerLeaves: the end of one caller's context ends his wait, and only his.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	g := newGate(t)
	r := asking(t, g.serve(t, counted(&asked, records(t, "name.test. 60 A 192.0.2.1"))))
	ctx, cancel := context.WithCancel(context.Background())
	first := lookup(ctx, r, "name.test")
	<-g.heard // the lookup is the first caller's
	second := lookup(context.Background(), r, "name.test")
	soon, done := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer done()
	third := lookup(soon, r, "name.test")
	cancel()
	// The gate is closed: only the contexts can end these.
	if got := <-first; !errors.Is(got.err, context.Canceled) {
		t.Errorf("the caller who left got %v, %v", got.addrs, got.err)
	}
	if got := <-third; !errors.Is(got.err, context.DeadlineExceeded) {
		t.Errorf("the caller whose time was over got %v, %v", got.addrs, got.err)
	}
	g.open()
	if got := <-second; got.err != nil || len(got.addrs) != 1 {
		t.Errorf("the caller who stayed got %v, %v", got.addrs, got.err)
	}
	if _, err := r.Lookup(ctx, "name.test"); err != nil {
		t.Errorf("what is known is not told after the end of the context: %v", err)
	}
	wantAsked(t, &asked, 2, "in the end")
}

// TestCallerGone: for a caller whose context has ended nothing is begun.
func TestCallerGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := asksNobody(t)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if got, err := r.Lookup(ctx, "name.test"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, %v", got, err)
		}
		synctest.Wait() // until a lookup begun after all has asked
	})
}

// TestCloseWaits: after Close nothing of the resolver runs any more.
func TestCloseWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := false
		r := newResolver(t, Config{System: func(ctx context.Context, _ string) ([]netip.Addr, error) {
			<-ctx.Done()
			time.Sleep(time.Second)
			ended = true
			return nil, ctx.Err()
		}})
		done := lookup(context.Background(), r, "name.test")
		synctest.Wait()
		if err := r.Close(); err != nil || !ended {
			t.Errorf("Close returned %v while a lookup was at work", err)
		}
		<-done
	})
}

// TestLateFamily: an answer waits for the other family a little while, and gets it later.
func TestLateFamily(t *testing.T) {
	t.Parallel()
	for name, lateType := range map[string]uint16{"AAAA": dns.TypeAAAA, "A": dns.TypeA} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			truth := records(t, "name.test. 60 A 192.0.2.1", "name.test. 60 AAAA 2001:db8::1")
			opened := make(chan struct{})
			open := sync.OnceFunc(func() { close(opened) })
			r := asking(t, startServer(t, counted(&asked, func(w dns.ResponseWriter, q *dns.Msg) {
				if q.Question[0].Qtype == lateType {
					<-opened
				}
				truth(w, q)
			})))
			t.Cleanup(open)
			early := "192.0.2.1"
			if lateType == dns.TypeA {
				early = "2001:db8::1"
			}
			wantAddrs(t, r, "name.test", early) // comes back though the gate is closed
			wantAddrs(t, r, "name.test", early)
			wantAsked(t, &asked, 2, "while one family is late")
			open()
			for end := time.Now().Add(ample); ; time.Sleep(time.Millisecond) {
				got, err := r.Lookup(context.Background(), "name.test")
				if err != nil {
					t.Fatal(err)
				}
				if len(got) == 2 {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("the late family has not come in: %v", got)
				}
			}
			wantAddrs(t, r, "name.test", "2001:db8::1", "192.0.2.1")
			wantAsked(t, &asked, 2, "in the end")
		})
	}
}

// TestUnreachableFirst: an answer of a family that nothing can be reached in is no answer yet, however late the other.
func TestUnreachableFirst(t *testing.T) {
	t.Parallel()
	truth := records(t, "name.test. 60 A 192.0.2.1", "name.test. 60 AAAA 2001:db8::1")
	r := newResolver(t, Config{
		Servers: []netip.AddrPort{startServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
			if q.Question[0].Qtype == dns.TypeA {
				time.Sleep(2 * resolutionDelay)
			}
			truth(w, q)
		})},
		Reachable:  netip.Addr.Is4,
		RetryAfter: ample, Timeout: ample,
	})
	wantAddrs(t, r, "name.test", "2001:db8::1", "192.0.2.1")
}

// TestNegativeFirst: the answer that one family has no address is no answer yet.
func TestNegativeFirst(t *testing.T) {
	t.Parallel()
	aaaa, opened := make(chan struct{}), make(chan struct{})
	open := sync.OnceFunc(func() { close(opened) })
	truth := records(t, "name.test. 60 A 192.0.2.1")
	r := asking(t, startServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if q.Question[0].Qtype == dns.TypeA {
			<-opened
			truth(w, q)
			return
		}
		send(w, reply(q))
		close(aaaa)
	}))
	t.Cleanup(open)
	done := lookup(context.Background(), r, "name.test")
	<-aaaa
	select {
	case got := <-done:
		t.Fatalf("answered %v, %v while one family was open", got.addrs, got.err)
	case <-time.After(resolutionDelay + 100*time.Millisecond):
	}
	open()
	if got := <-done; got.err != nil || len(got.addrs) != 1 {
		t.Errorf("got %v, %v", got.addrs, got.err)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	underWay := make(chan struct{}, 10)
	for name, c := range map[string]Config{
		"asking": {
			Servers:    []netip.AddrPort{startServer(t, func(dns.ResponseWriter, *dns.Msg) { underWay <- struct{}{} })},
			RetryAfter: ample, Timeout: ample,
		},
		"system": {Timeout: ample, System: func(ctx context.Context, host string) ([]netip.Addr, error) {
			if host == "known.test" {
				return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
			}
			underWay <- struct{}{}
			<-ctx.Done()
			return nil, &net.DNSError{Err: ctx.Err().Error(), Name: host}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newResolver(t, c)
			if c.System != nil {
				wantAddrs(t, r, "known.test", "192.0.2.1")
			}
			done := lookup(context.Background(), r, "name.test")
			<-underWay
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if got := <-done; !errors.Is(got.err, net.ErrClosed) {
				t.Errorf("the lookup under way got %v, %v", got.addrs, got.err)
			}
			_ = wantError(t, r, "later.test", net.ErrClosed)
			wantAddrs(t, r, "192.0.2.1", "192.0.2.1")
			if c.System != nil {
				wantAddrs(t, r, "known.test", "192.0.2.1")
			}
		})
	}
}
