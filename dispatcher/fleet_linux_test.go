package dispatcher

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"dispatch/dispatcher/balance"
	"dispatch/dispatcher/uplink"
	"dispatch/testdata/netlab"
)

// While lines join, leave and are weighed anew, no connection fails and no session ends; what has left carries nothing new.
func TestFleetChangesUnderLoad(t *testing.T) {
	lab := netlab.New(t, netlab.Config{})
	server := lab.Listen(t, at("198.18.0.1"))
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				_, _ = io.Copy(c, c) // the client sees whether it all came
				c.Close()
			})
		}
	})
	defer server.Close()
	d := inLab(t, Config{}, "wan1", "wan2", "wan3")
	echoes := func(c net.Conn, text string) error {
		if _, err := io.WriteString(c, text); err != nil {
			return err
		}
		back := make([]byte, len(text))
		if _, err := io.ReadFull(c, back); err != nil || string(back) != text {
			return fmt.Errorf("%q came back as %q: %w", text, back, err)
		}
		return nil
	}

	end := time.Now().Add(2 * time.Second)
	var load sync.WaitGroup
	dials, changes := 0, 0
	var mu sync.Mutex
	for range 8 {
		load.Go(func() {
			var open []*Conn
			for n := 0; time.Now().Before(end) || len(open) > 0; n++ {
				if time.Now().Before(end) {
					c, err := d.Dial(t.Context(), Request{Host: "198.18.0.1", Port: 80})
					if err != nil {
						t.Errorf("a connection failed: %v", err)
						return
					}
					open = append(open, c)
					mu.Lock()
					dials++
					mu.Unlock()
				}
				for _, c := range open {
					if err := echoes(c, fmt.Sprint("step ", n)); err != nil {
						t.Errorf("a session of %s broke: %v", c.Uplink().Name(), err)
					}
				}
				if len(open) == 20 || !time.Now().Before(end) {
					for _, c := range open {
						if err := c.Close(); err != nil {
							t.Errorf("closing: %v", err)
						}
					}
					open = nil
				}
			}
		})
	}
	for time.Now().Before(end) {
		names := []string{"wan1", "wan2", "wan3"}
		rand.Shuffle(len(names), func(a, b int) { names[a], names[b] = names[b], names[a] })
		var specs []uplink.Spec
		for _, name := range names[:1+rand.IntN(3)] {
			specs = append(specs, uplink.Spec{Name: name, Weight: 1 + rand.IntN(9)})
		}
		if change, err := d.fleet.Apply(specs); err != nil || len(change.Cut) > 0 {
			t.Errorf("%v: %+v, %v", specs, change, err)
		}
		changes++
		time.Sleep(time.Duration(rand.IntN(4)) * time.Millisecond)
	}
	load.Wait()
	t.Logf("%d connections during %d changes", dials, changes)
	for _, u := range d.fleet.Uplinks() {
		if n := u.Sessions(); n != 0 {
			t.Errorf("%s is held by %d sessions when all have ended", u.Name(), n)
		}
	}
	var specs []uplink.Spec
	for n, name := range []string{"wan1", "wan2", "wan3"} {
		specs = append(specs, uplink.Spec{Name: name, Weight: 1 + n})
	}
	if _, err := d.fleet.Apply(specs); err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for range 60 {
		route, err := d.Route(t.Context(), &Request{Host: "198.18.0.1", Port: 80})
		if err != nil {
			t.Fatal(err)
		}
		count[route.Uplink().Name()]++
	}
	if count["wan1"] != 10 || count["wan2"] != 20 || count["wan3"] != 30 {
		t.Errorf("shares of 1:2:3 after the changes: %v", count)
	}
}

// The sessions of a line that was removed go on until they are reset.
func TestRemovedLineKeepsItsSessions(t *testing.T) {
	lab := netlab.New(t, netlab.Config{})
	server := lab.Listen(t, at("198.18.0.1"))
	d := inLab(t, Config{}, "wan1", "wan2")
	conns := make(map[string]*Conn)
	for range 2 {
		c, err := d.Dial(t.Context(), Request{Host: "198.18.0.1", Port: 80})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		far, err := server.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer far.Close()
		conns[c.Uplink().Name()] = c
	}
	change, err := d.fleet.Apply([]uplink.Spec{{Name: "wan2", Weight: 1}})
	if err != nil || len(change.Removed) != 1 {
		t.Fatalf("%+v, %v", change, err)
	}
	gone := change.Removed[0]
	if _, err := conns["wan1"].Write([]byte("still here")); err != nil || gone.Sessions() != 1 {
		t.Errorf("a removed line holds %d sessions, %v", gone.Sessions(), err)
	}
	if n := d.ResetLine(gone); n != 1 {
		t.Errorf("%d sessions were reset", n)
	}
	if _, err := conns["wan1"].Write([]byte("?")); err == nil {
		t.Error("a session that was reset goes on")
	}
	if _, err := conns["wan2"].Write([]byte("still here")); err != nil {
		t.Errorf("the other line's session: %v", err)
	}
	// So is one that was being made when the line's were reset.
	late := &Conn{stream: conns["wan2"].stream, uplink: gone}
	s := d.Begin(Request{Host: "late"})
	late.Serve(s)
	if _, err := late.Write([]byte("?")); err == nil {
		t.Error("a session that came late to a line that has ended goes on")
	}
	s.End(nil)
	if _, err := d.fleet.Apply([]uplink.Spec{{Name: "wan2", Weight: 1}, {Name: "wan1", Weight: 1}}); err != nil {
		t.Fatal(err)
	}
	if gone.Ended() || d.fleet.Uplinks()[1] != gone {
		t.Error("a line that has come back is over, or another one")
	}
	if names := func() (names []string) {
		for _, a := range d.Snapshot().Uplinks {
			names = append(names, a.Name)
		}
		return names
	}(); !slices.Equal(names, []string{"wan2", "wan1"}) {
		t.Errorf("the accounts are %q", names)
	}
}

// sampled is a strategy that hands on what it is told of traffic.
type sampled struct {
	balance.WeightedRoundRobin
	samples chan []balance.Traffic
}

func (s *sampled) Sample(_ time.Time, lines []balance.Traffic) {
	select {
	case s.samples <- lines:
	default: // the test has seen enough
	}
}

func TestStrategyIsToldOfTraffic(t *testing.T) {
	lab := netlab.New(t, netlab.Config{})
	server := lab.Listen(t, at("198.18.0.1"))
	strategy := &sampled{samples: make(chan []balance.Traffic)}
	d := inLab(t, Config{Strategy: strategy}, "wan1@3", "wan2")
	var near, far []net.Conn
	for range 4 {
		c, err := d.Dial(t.Context(), Request{Host: "198.18.0.1", Port: 80})
		if err != nil {
			t.Fatal(err)
		}
		s, err := server.Accept()
		if err != nil {
			t.Fatal(err)
		}
		near, far = append(near, c), append(far, s)
	}
	pass := func(n int, up, down string) {
		t.Helper()
		for _, way := range []struct {
			from, to net.Conn
			text     string
		}{{near[n], far[n], up}, {far[n], near[n], down}} {
			if _, err := io.WriteString(way.from, way.text); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(way.to, make([]byte, len(way.text))); err != nil {
				t.Fatal(err)
			}
		}
	}
	expect := func(when string, want ...balance.Traffic) {
		t.Helper()
		for n := range want {
			want[n].Line = d.fleet.Uplinks()[n]
		}
		if got := d.ledger.traffic(d.fleet.Uplinks()); !slices.Equal(got, want) {
			t.Errorf("%s: %+v, want %+v", when, got, want)
		}
	}
	expect("idle", balance.Traffic{Open: 3}, balance.Traffic{Open: 1})
	one, other := 0, slices.IndexFunc(near, func(c net.Conn) bool { return c.(*Conn).Uplink().Name() == "wan2" })
	if other == 0 {
		one = 1
	}
	pass(one, "up", "down")
	pass(other, "u", "")
	expect("busy", balance.Traffic{Open: 3, Busy: 1, Up: 2, Down: 4}, balance.Traffic{Open: 1, Busy: 1, Up: 1})
	expect("idle again", balance.Traffic{Open: 3, Up: 2, Down: 4}, balance.Traffic{Open: 1, Up: 1})
	for n := range near {
		near[n].Close()
		far[n].Close()
	}
	expect("all ended", balance.Traffic{Up: 2, Down: 4}, balance.Traffic{Up: 1})

	// The strategy is told the same, now and then.
	ctx, cancel := context.WithCancel(t.Context())
	var sampling sync.WaitGroup
	sampling.Go(func() { d.Sample(ctx) })
	if got := <-strategy.samples; len(got) != 2 || got[0].Up != 2 || got[1].Up != 1 {
		t.Errorf("the strategy was told %+v", got)
	}
	cancel()
	sampling.Wait()
}
