package dispatcher

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
	"dispatch/testdata/loopback"
	"dispatch/testdata/netlab"
)

// inLab makes a dispatcher over a lab's lines.
func inLab(t *testing.T, config Config, args ...string) *Dispatcher {
	t.Helper()
	specs, err := uplink.ParseSpecs(args)
	if err != nil {
		t.Fatal(err)
	}
	if config.Fleet, err = uplink.NewFleet(new(machine.Table), specs); err != nil {
		t.Fatal(err)
	}
	return New(config)
}

// ask dials and returns the peer that the server saw.
func ask(t *testing.T, d *Dispatcher, host string, port uint16) (netip.Addr, error) {
	t.Helper()
	c, err := d.Dial(t.Context(), Request{Host: host, Port: port})
	if err != nil {
		return netip.Addr{}, err
	}
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	peer, err := netlab.ReadPeer(c)
	return peer.Addr(), errors.Join(err, c.Close())
}

func at(addr string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(addr), 80) }

func TestSharesAreExact(t *testing.T) {
	lab := netlab.New(t, netlab.Config{})
	lab.EchoPeer(t, at("198.18.0.1"))
	d := inLab(t, Config{}, "wan1@5", "wan2@3", "wan3@2")
	count := map[netip.Addr]int{}
	for range 100 {
		peer, err := ask(t, d, "198.18.0.1", 80)
		if err != nil {
			t.Fatal(err)
		}
		count[peer]++
	}
	for n, want := range []int{50, 30, 20} {
		if got := count[lab.Uplink(n).IPv4.Addr()]; got != want {
			t.Errorf("wan%d carried %d, want %d", n+1, got, want)
		}
	}
}

// 7:3 over a line with only IPv4 and one with only IPv6: names with both are spread 7:3, others take what fits.
func TestFamiliesMatch(t *testing.T) {
	lab := netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{{NoIPv6: true}, {NoIPv4: true}}})
	lab.EchoPeer(t, at("198.18.0.1"))
	lab.EchoPeer(t, at("2001:db8:5e::1"))
	d := inLab(t, Config{Resolver: names(map[string][]string{
		"dual": {"198.18.0.1", "2001:db8:5e::1"}, "four": {"198.18.0.1"}, "six": {"2001:db8:5e::1"},
	})}, "wan1@7", "wan2@3")
	for host, want := range map[string][2]int{"dual": {14, 6}, "four": {20, 0}, "six": {0, 20}} {
		var got [2]int
		for range 20 {
			peer, err := ask(t, d, host, 80)
			if err != nil {
				t.Fatalf("%s: %v", host, err)
			}
			if peer.Is4() {
				got[0]++
			} else {
				got[1]++
			}
		}
		if got != want {
			t.Errorf("%s: IPv4 and IPv6 %v, want %v", host, got, want)
		}
	}
}

// The line whose turn it is has no default route: IPv4 would wait 3 s for an answer to ARP, but is overtaken.
func TestLineWithoutDefaultRouteIsOvertaken(t *testing.T) {
	lab := netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{{NoDefault4: true, NoDefault6: true}, {}, {}}})
	lab.EchoPeer(t, at("198.18.0.1"))
	lab.EchoPeer(t, at("2001:db8:5e::1"))
	var log loopback.Log
	d := inLab(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, "wan1@1000", "wan2", "wan3")
	for host, atMost := range map[string]time.Duration{"198.18.0.1": 2500 * time.Millisecond, "2001:db8:5e::1": time.Second} {
		for range 4 {
			start := time.Now()
			peer, err := ask(t, d, host, 80)
			took := time.Since(start)
			dead := lab.Uplink(0)
			if err != nil || peer == dead.IPv4.Addr() || peer == dead.IPv6.Addr() || took > atMost {
				t.Errorf("%s: seen as %s after %s, %v", host, peer, took, err)
			}
			t.Logf("%s served through %s after %s", host, peer, took.Round(time.Millisecond))
		}
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("the line was warned of %d times within a minute:\n%s", n, log.String())
	}
}

// A silent line loses to another one, and the connection it made too late is not leaked (goleak would not see a
// descriptor, but the server would see a session: its end is awaited by the lab).
func TestSilentLineIsOvertaken(t *testing.T) {
	lab := netlab.New(t, netlab.Config{})
	lab.EchoPeer(t, at("198.18.0.1"))
	d := inLab(t, Config{}, "wan1@1000", "wan2", "wan3")
	lab.Silence(0, true)
	start := time.Now()
	peer, err := ask(t, d, "198.18.0.1", 80)
	if took := time.Since(start); err != nil || peer == lab.Uplink(0).IPv4.Addr() || took > 2*time.Second {
		t.Errorf("seen as %s after %s, %v", peer, took, err)
	}
	lab.Silence(0, false)
	if peer, err = ask(t, d, "198.18.0.1", 80); err != nil || peer != lab.Uplink(0).IPv4.Addr() {
		t.Errorf("once it speaks again: seen as %s, %v", peer, err)
	}
}

// heard keeps what an Observer is told.
type heard struct {
	mu       sync.Mutex
	outcomes []uplink.Outcome
}

func (h *heard) Attempted(o uplink.Outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.outcomes = append(h.outcomes, o)
}

func (*heard) Doubted(*uplink.Uplink, uplink.Family) {}

// A silent line that loses to another one is told of, whichever of the host's addresses the other one reached.
func TestOvertakenAttemptsAreToldOf(t *testing.T) {
	lab := netlab.New(t, netlab.Config{})
	lab.EchoPeer(t, at("198.18.0.1"))
	lab.EchoPeer(t, at("198.18.0.2"))
	var h heard
	d := inLab(t, Config{
		Observer: &h, Resolver: names(map[string][]string{"one": {"198.18.0.1"}, "two": {"198.18.0.1", "198.18.0.2"}}),
	}, "wan1@1000", "wan2", "wan3")
	lab.Silence(0, true)
	for host, want := range map[string]uplink.Overtaken{"one": uplink.OvertakenThere, "two": uplink.OvertakenElsewhere} {
		h.outcomes = nil
		if peer, err := ask(t, d, host, 80); err != nil || peer == lab.Uplink(0).IPv4.Addr() {
			t.Fatalf("%s: seen as %s, %v", host, peer, err)
		}
		for _, o := range h.outcomes {
			if o.Host != host || (o.Uplink.ID() == 0) != (o.Overtaken == want) || o.Uplink.ID() != 0 && o.Overtaken != uplink.NotOvertaken {
				t.Errorf("%s: told %+v", host, o)
			}
		}
		if len(h.outcomes) < 2 {
			t.Errorf("%s: told %+v", host, h.outcomes)
		}
	}
}

// The deadline holds for an attempt that was begun beside one that has failed meanwhile.
func TestDeadlineHoldsForTheLastAttempt(t *testing.T) {
	lab := netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{{NoDefault4: true}, {}}})
	lab.Internet.Block(netip.MustParseAddr("198.18.0.3"), netlab.Drop)
	d := inLab(t, Config{ConnectTimeout: 4 * time.Second}, "wan1@1000", "wan2")
	start := time.Now()
	_, err := ask(t, d, "198.18.0.3", 80)
	if took := time.Since(start); ClassOf(err) != TimedOut || took < 3500*time.Millisecond || took > 10*time.Second {
		t.Errorf("class %q after %s: %v", ClassOf(err), took, err)
	}
}

// A name's first addresses are dead: one silent, one refusing, one unreachable. The last is found, and no line is
// used up by a destination's fault.
func TestDeadAddressesOfAName(t *testing.T) {
	lab := netlab.New(t, netlab.Config{})
	lab.EchoPeer(t, at("198.18.0.9"))
	lab.ServerAddr(netip.MustParseAddr("198.18.0.2"))
	lab.Internet.Block(netip.MustParseAddr("198.18.0.3"), netlab.Drop)
	lab.Internet.Block(netip.MustParseAddr("198.18.0.4"), netlab.Unreachable)
	d := inLab(t, Config{Resolver: names(map[string][]string{
		"refused":     {"198.18.0.2", "198.18.0.9"},
		"silent":      {"198.18.0.3", "198.18.0.9"},
		"unreachable": {"198.18.0.4", "198.18.0.9"},
		"all":         {"198.18.0.2", "198.18.0.3", "198.18.0.4", "198.18.0.9"},
	})}, "wan1", "wan2", "wan3")
	for _, host := range []string{"refused", "silent", "unreachable", "all"} {
		start := time.Now()
		if _, err := ask(t, d, host, 80); err != nil {
			t.Errorf("%s: %v", host, err)
		}
		took := time.Since(start)
		if took > 3*time.Second {
			t.Errorf("%s took %s", host, took)
		}
		t.Logf("%s first: served after %s", host, took.Round(time.Millisecond))
	}
}

func TestOneLineFindsTheLivingAddress(t *testing.T) {
	lab := netlab.New(t, netlab.Config{Uplinks: make([]netlab.Uplink, 1)})
	lab.EchoPeer(t, at("198.18.0.9"))
	lab.Internet.Block(netip.MustParseAddr("198.18.0.3"), netlab.Drop)
	d := inLab(t, Config{Resolver: names(map[string][]string{"silent": {"198.18.0.3", "198.18.0.9"}})}, "wan1")
	if _, err := ask(t, d, "silent", 80); err != nil {
		t.Error(err)
	}
}

func TestFailedRequestsAreClassed(t *testing.T) {
	lab := netlab.New(t, netlab.Config{})
	lab.ServerAddr(netip.MustParseAddr("198.18.0.2"))
	lab.Internet.Block(netip.MustParseAddr("198.18.0.3"), netlab.Drop)
	lab.Internet.Block(netip.MustParseAddr("198.18.0.4"), netlab.Unreachable)
	for _, c := range []struct {
		host     string
		class    Class
		attempts string
	}{
		{"198.18.0.2", Refused, "attempts=1"}, // a refusal through one line is one through all
		{"198.18.0.3", TimedOut, "attempts=3"},
		{"198.18.0.4", NetworkUnreachable, "attempts=3"},
		{"mixed", Refused, "attempts="}, // the answer that tells more
	} {
		var log loopback.Log
		d := inLab(t, Config{
			ConnectTimeout: 2 * time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Resolver: names(map[string][]string{"mixed": {"198.18.0.2", "198.18.0.4"}}),
		}, "wan1", "wan2", "wan3")
		_, err := ask(t, d, c.host, 80)
		if ClassOf(err) != c.class || !strings.Contains(log.String(), c.attempts) {
			t.Errorf("%s: class %q, want %q with %s; %v\n%s", c.host, ClassOf(err), c.class, c.attempts, err, log.String())
		}
	}
}

// What is next door to one line is reached through that line only, whosever turn it is.
func TestNeighbourOfALine(t *testing.T) {
	lab := netlab.New(t, netlab.Config{})
	d := inLab(t, Config{}, "wan1@5", "wan2@3", "wan3")
	gateway := lab.Uplink(1).Gateway4
	for range 5 {
		route, err := d.Route(t.Context(), &Request{Host: gateway.String(), Port: 1})
		if err != nil || route.Uplink().Name() != "wan2" {
			t.Fatalf("%v, %v", route, err)
		}
	}
	// It answers, with a refusal: another line would have timed out.
	if _, err := ask(t, d, gateway.String(), 1); ClassOf(err) != Refused {
		t.Errorf("class %q: %v", ClassOf(err), err)
	}
}

func TestDialEndsWithItsContextMidway(t *testing.T) {
	lab := netlab.New(t, netlab.Config{Uplinks: make([]netlab.Uplink, 1)})
	lab.Internet.Block(netip.MustParseAddr("198.18.0.3"), netlab.Drop)
	d := inLab(t, Config{}, "wan1")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	start := time.Now()
	_, err := d.Dial(ctx, Request{Host: "198.18.0.3", Port: 80})
	if took := time.Since(start); ClassOf(err) != Canceled || took > time.Second {
		t.Errorf("class %q after %s: %v", ClassOf(err), took, err)
	}
}
