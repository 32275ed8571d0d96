package health

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
	"dispatch/testdata/loopback"
)

func loopbackTable() *machine.Table {
	return &machine.Table{List: func() ([]machine.Interface, error) {
		return []machine.Interface{{
			Index: 1, Name: "lo", Kind: machine.KindLoopback, Up: true,
			Addresses: []machine.Address{{Prefix: netip.MustParsePrefix("127.0.0.1/8")}},
		}}, nil
	}}
}

// loopbackLines are two uplinks that work, both on the loopback interface.
func loopbackLines(t *testing.T) *uplink.Fleet {
	t.Helper()
	set, err := uplink.NewFleet(loopbackTable(), []uplink.Spec{{Name: "lo", Weight: 1}, {Addr: netip.MustParseAddr("127.0.0.1"), Weight: 1}})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// server counts the connections that it gets.
func server(t *testing.T) (netip.AddrPort, *atomic.Int32) {
	t.Helper()
	var count atomic.Int32
	return loopback.Serve(t, func(*net.TCPConn) error {
		count.Add(1)
		return nil
	}), &count
}

// A suspect line that carries a connection is up again at once, and nobody else is connected to.
func TestCheckFindsALineAlive(t *testing.T) {
	t.Parallel()
	b := watch(t, loopbackLines(t))
	at, count := server(t)
	b.report(0, at, uplink.NoFailure)
	b.report(1, at, uplink.TimedOut)
	b.waitFor(1, Up)
	loopback.Eventually(t, "a check to be accepted", func() bool { return count.Load() > 0 })
	if n := count.Load(); n != 1 {
		t.Errorf("%d checks", n)
	}
}

// A refusal comes through the line.
func TestCheckTakesARefusalForAnAnswer(t *testing.T) {
	t.Parallel()
	b := watch(t, loopbackLines(t))
	at := loopback.Refusing(t)
	b.report(0, at, uplink.NoFailure)
	b.report(1, at, uplink.TimedOut)
	b.waitFor(1, Up)
}

// Doubts, however many, cause one check a second; a line that answers stays up.
func TestDoubtsAreCheckedAtMostOnceASecond(t *testing.T) {
	t.Parallel()
	b := watch(t, loopbackLines(t))
	at, count := server(t)
	b.report(0, at, uplink.NoFailure)
	u := b.set.Uplinks()[1]
	began := time.Now()
	for time.Since(began) < 1500*time.Millisecond {
		b.Doubted(u, uplink.IPv4)
		b.avoids("while it is doubted")
		time.Sleep(time.Millisecond)
	}
	if n := count.Load(); n < 1 || n > 3 {
		t.Errorf("%d checks in %v", n, time.Since(began))
	}
}

// A line on which a check fails is suspect after the first, and down after the second.
func TestFailedChecks(t *testing.T) {
	t.Parallel()
	set, _ := noLines(t)
	b := watch(t, set)
	b.report(0, destinationA, uplink.NoFailure)
	b.Doubted(set.Uplinks()[1], uplink.IPv4)
	b.waitFor(1, Suspect)
	b.avoids("after the first check", 1)
	b.waitFor(1, Down)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.told) != 2 || b.told[0].State != Suspect || b.told[1].State != Down {
		t.Errorf("told %+v, want it suspect, then down", b.told)
	}
}

// With nothing to check, a doubt has no consequence.
func TestNothingToCheck(t *testing.T) {
	t.Parallel()
	set, _ := noLines(t)
	b := watch(t, set)
	b.Doubted(set.Uplinks()[1], uplink.IPv4)
	b.report(1, destinationA, uplink.NoFailure) // by the line itself
	b.Doubted(set.Uplinks()[1], uplink.IPv4)
	time.Sleep(20 * time.Millisecond)
	b.avoids("after doubts")
}

// With probes each line is checked with them from the start, and with nothing else.
func TestProbes(t *testing.T) {
	t.Parallel()
	status, asked := atomic.Int32{}, atomic.Int32{}
	status.Store(http.StatusNoContent)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		if code := int(status.Load()); code == http.StatusFound {
			w.Header().Set("Location", "http://login.test/")
			w.WriteHeader(code)
		} else {
			w.WriteHeader(code)
		}
	}))
	defer s.Close()
	target, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	names := func(_ context.Context, host string) ([]netip.Addr, error) {
		if host != "probe.test" {
			return nil, errors.New(host + " is not known")
		}
		return []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("127.0.0.1")}, nil
	}
	set := loopbackLines(t)
	for _, c := range []struct {
		probe, problem string
		status         int
	}{
		{"http://probe.test:PORT/x", "", 204},
		{"http://probe.test:PORT/x#204", "", 204},
		{"http://127.0.0.1:PORT/x", "", 200},
		{"tcp://probe.test:PORT", "", 500},
		{"http://probe.test:PORT/x", "login needed", 302},
		{"http://probe.test:PORT/x#204", "login needed", 200},
		{"http://probe.test:PORT/x", "login needed", 511},
		{"http://probe.test:PORT/x", "status 500", 500},
		{"http://other.test:PORT/x", "not known", 200},
	} {
		p, err := ParseProbe(strings.ReplaceAll(c.probe, "PORT", target.Port()))
		if err != nil {
			t.Fatal(err)
		}
		status.Store(int32(c.status))
		err = p.through(t.Context(), set.Uplinks()[0], uplink.IPv4, names)
		if c.problem == "" && err != nil || c.problem != "" && (err == nil || !strings.Contains(err.Error(), c.problem)) {
			t.Errorf("%s, status %d: %v, want %q", c.probe, c.status, err, c.problem)
		}
	}

	status.Store(http.StatusFound)
	p, err := ParseProbe(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	b := watch(t, set, p)
	b.waitFor(0, Suspect)
	b.waitFor(1, Suspect)
	status.Store(http.StatusOK)
	b.waitFor(0, Up)
	b.waitFor(1, Up)
}

// Where a login is asked for everything seems to connect: neither that nor a TCP probe speaks for the line.
func TestLoginPageIsNoSuccess(t *testing.T) {
	t.Parallel()
	var open atomic.Bool
	watched, asked := make(chan *bench, 1), make(chan struct{}, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !open.Load() {
			b := <-watched
			b.report(0, destinationA, uplink.NoFailure) // while the check is under way
			watched <- b
			w.WriteHeader(http.StatusNetworkAuthenticationRequired)
		}
		asked <- struct{}{}
	}))
	defer s.Close()
	var probes []Probe
	for _, text := range []string{"tcp" + strings.TrimPrefix(s.URL, "http"), s.URL} {
		p, err := ParseProbe(text)
		if err != nil {
			t.Fatal(err)
		}
		probes = append(probes, p)
	}
	set, err := uplink.NewFleet(loopbackTable(), []uplink.Spec{{Name: "lo", Weight: 1}})
	if err != nil {
		t.Fatal(err)
	}
	b := watch(t, set, probes...)
	watched <- b
	for range 2 { // the second check would be the TCP probe's turn
		select {
		case <-asked:
		case <-time.After(10 * time.Second):
			t.Fatal("the page is not asked for")
		}
	}
	b.waitFor(0, Down)
	b.report(0, destinationB, uplink.NoFailure)
	b.report(0, destinationB, uplink.Refused)
	b.avoids("while a login is needed", 0)
	open.Store(true)
	b.Doubted(set.Uplinks()[0], uplink.IPv4)
	b.waitFor(0, Up)
	b.report(0, destinationA, uplink.NoFailure)
	b.avoids("after the login")
}

// A check is ended, and made anew, when the kernel changes what it is about.
func TestKernelEndsACheck(t *testing.T) {
	t.Parallel()
	var routed atomic.Bool
	asked, ended := make(chan struct{}), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if !routed.Load() {
			close(asked)
			<-r.Context().Done()
			close(ended)
		}
	}))
	defer s.Close()
	p, err := ParseProbe(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	table := loopbackTable()
	list := table.List
	table.List = func() ([]machine.Interface, error) {
		all, err := list()
		if routed.Load() {
			all[0].DefaultRoutes = []machine.DefaultRoute{{Family: uplink.IPv4, Router: netip.MustParseAddr("127.0.0.2")}}
		}
		return all, err
	}
	set, err := uplink.NewFleet(table, []uplink.Spec{{Name: "lo", Weight: 1}})
	if err != nil {
		t.Fatal(err)
	}
	b := watch(t, set, p)
	<-asked
	routed.Store(true)
	table.Invalidate()
	view, err := set.View()
	if err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	b.Kernel(view)
	<-ended
	if took := time.Since(before); took > checkTimeout/2 {
		t.Errorf("the check went on for %v", took)
	}
	b.avoids("after a check that says nothing")
	b.waitChecks()
	b.avoids("after the next one")
}
