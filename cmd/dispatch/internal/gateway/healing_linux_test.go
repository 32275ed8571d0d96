package gateway

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dispatch/cmd/dispatch/internal/config"
	"dispatch/testdata/netlab"
	"dispatch/testdata/world"
)

const (
	// before is how long a load goes on before something happens to a line, meanwhile while it lasts, and after when it
	// is over.
	before    = time.Second
	meanwhile = 3 * time.Second
	after     = 2500 * time.Millisecond
)

// What happens to lines while 100 requests a second go out. Each case has three lines of its own, and a gateway.
func TestHealing(t *testing.T) {
	cases := []struct {
		name string
		run  func(*testing.T, *running)
	}{
		{"link down and up", linkDownAndUp},
		{"silence", silence},
		{"silence at a host of several addresses", silenceAtSeveralAddresses},
		{"another address", readdressed},
		{"default route removed", routeRemoved},
		{"dead destinations demote no line", deadDestinations},
		{"all links down, then one up", func(t *testing.T, r *running) {
			allDownThenOneBack(t, r, func(i int, down bool) { r.lab.ClientLink(i, !down) })
		}},
		{"all silent, then one back", func(t *testing.T, r *running) { allDownThenOneBack(t, r, r.lab.Silence) }},
		{"address vanishes in use", func(t *testing.T, r *running) { vanish(t, r, func() {}) }},
		// By then it is no source of a line any more, which says nothing of the sessions.
		{"address vanishes after its link", func(t *testing.T, r *running) {
			vanish(t, r, func() { r.lab.ClientLink(r.first+1, false) })
		}},
		{"address vanishes after it was deprecated", func(t *testing.T, r *running) {
			vanish(t, r, func() {
				r.lab.AddAddr(r.first+1, netlab.Addr{Prefix: r.lab.Uplink(r.first + 1).IPv4, Deprecated: true})
			})
		}},
	}
	lab := world.New(t, netlab.Config{Uplinks: make([]netlab.Uplink, 3*len(cases))})
	for n, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var names []string
			for i := range 3 {
				names = append(names, lab.Uplink(3*n+i).Name)
			}
			c.run(t, begin(t, lab, 3*n, config.Flags{DNS: world.DNS, Uplinks: names}))
		})
	}
}

// second is what the log calls the second line.
func (r *running) second() string { return fmt.Sprintf(`"uplink":%q`, r.lab.Uplink(r.first+1).Name) }

// A line's link goes down and comes back: no request fails.
func linkDownAndUp(t *testing.T, r *running) {
	stop := r.load(t)
	time.Sleep(before)
	cut := time.Now()
	r.lab.ClientLink(r.first+1, false)
	r.log.when(t, cut, "uplink is down", r.second(), `"ipv4"`)
	time.Sleep(meanwhile)
	back := time.Now()
	r.lab.ClientLink(r.first+1, true)
	up := r.log.when(t, back, "uplink is up again", r.second(), `"ipv4"`)
	time.Sleep(after)
	all := stop()
	judge(t, all, cut)
	down := between(all, cut.Add(100*time.Millisecond), back)
	if by := byLine(down); by[1] > 0 || len(down) == 0 {
		t.Errorf("while the link was down, the lines served %v", by)
	}
	if took := up.Sub(back); took > 2*time.Second {
		t.Errorf("it was used again %v after its return", took)
	}
	thirdEach(t, between(all, up, time.Now()))
	t.Logf("up %v after its return; shares while it was down %v", up.Sub(back).Round(time.Millisecond), byLine(down))
}

// thirdEach fails the test unless the second line has served its share.
func thirdEach(t *testing.T, all []*request) {
	t.Helper()
	if by := byLine(all); len(all) == 0 || by[1] < len(all)*3/10 || by[1] > len(all)*2/5 {
		t.Errorf("after its return the lines served %v of %d: not a third each", by, len(all))
	}
}

// A line's ISP falls silent: no new connection fails, and once the line is suspect none waits for it.
func silence(t *testing.T, r *running) {
	begin := time.Now()
	stop := r.load(t)
	time.Sleep(before)
	cut := time.Now()
	r.lab.Silence(r.first+1, true)
	suspected := r.log.when(t, cut, "uplink is suspect", r.second())
	time.Sleep(meanwhile)
	back := time.Now()
	r.lab.Silence(r.first+1, false)
	up := r.log.when(t, back, "uplink is up again", r.second())
	time.Sleep(after)
	all := stop()
	judge(t, all, cut)
	usual, first := times(between(all, begin, cut.Add(-inFlight))), times(between(all, cut, suspected))
	avoided := times(between(all, suspected, back))
	t.Logf("suspect after %v; until then worst %v; while it was suspect p50 %v, p99 %v, worst %v; up again %v after the ISP was",
		suspected.Sub(cut).Round(time.Millisecond), percentile(first, 100), percentile(avoided, 50), percentile(avoided, 99),
		percentile(avoided, 100), up.Sub(back).Round(time.Millisecond))
	// A third of the requests would wait for the dead line until it is overtaken. On a busy machine some are slow anyway.
	if slow := slowShare(avoided); len(avoided) == 0 || slow > slowShare(usual)+0.1 {
		t.Errorf("while the line was suspect, %.2f of %d requests were slow, before %.2f: they still wait for it", slow, len(avoided), slowShare(usual))
	}
	last := between(all, up, time.Now())
	if by := byLine(last); by[1] == 0 || by[1] < len(last)/3-len(last)/20-2 {
		t.Errorf("after its return the lines served %v of %d", by, len(last))
	}
}

// A line falls silent while only a host with several addresses is asked for. The others win at another of its addresses
// each time: still the line becomes suspect, in both families, and nobody waits for it any more.
func silenceAtSeveralAddresses(t *testing.T, r *running) {
	ask := func(n int) (took []time.Duration) {
		for range n {
			start := time.Now()
			if _, err := r.Ask(t.Context(), world.SOCKS5, world.NameOfBoth); err != nil {
				t.Error(err)
			}
			took = append(took, time.Since(start))
			time.Sleep(20 * time.Millisecond)
		}
		slices.Sort(took)
		return took
	}
	ask(12)
	cut := time.Now()
	r.lab.Silence(r.first+1, true)
	first := ask(60)
	for _, family := range []string{`"ipv4"`, `"ipv6"`} {
		r.log.when(t, cut, "uplink is suspect", r.second(), family)
	}
	avoided := ask(60)
	t.Logf("after the line's silence 60 requests took p50 %v, worst %v; once it was suspect p50 %v, worst %v",
		percentile(first, 50), percentile(first, 100), percentile(avoided, 50), percentile(avoided, 100))
	if slow := slowShare(avoided); slow > 0.1 {
		t.Errorf("%.2f of the requests were slow: they still wait for the line", slow)
	}
}

// A line gets another address, without a word of warning.
func readdressed(t *testing.T, r *running) {
	stop := r.load(t)
	time.Sleep(before)
	cut := time.Now()
	address := r.lab.Uplink(r.first + 1).IPv4
	r.lab.Readdress(r.first+1, netip.PrefixFrom(address.Addr().Next(), address.Bits()))
	time.Sleep(2*time.Second + after)
	all := stop()
	judge(t, all, cut)
	thirdEach(t, between(all, cut.Add(2*time.Second), time.Now()))
}

// A line loses its default route, and gets it back.
func routeRemoved(t *testing.T, r *running) {
	stop := r.load(t)
	time.Sleep(before)
	cut := time.Now()
	r.lab.SetDefault4(r.first+1, false)
	r.log.when(t, cut, "uplink is suspect", r.second())
	time.Sleep(meanwhile)
	back := time.Now()
	r.lab.SetDefault4(r.first+1, true)
	up := r.log.when(t, back, "uplink is up again", r.second())
	time.Sleep(after)
	all := stop()
	judge(t, all, cut)
	if took := up.Sub(back); took > 2*time.Second {
		t.Errorf("it was used again %v after the route's return", took)
	}
	thirdEach(t, between(all, up, time.Now()))
}

// Destinations that are dead are never held against the lines.
func deadDestinations(t *testing.T, r *running) {
	const long = 6 * time.Second // for all three lines to have failed there
	stop := r.load(t)
	var dead sync.WaitGroup
	for n := range 60 {
		dead.Go(func() {
			host := world.Silent4
			if n%2 == 0 {
				host = world.Nobody4
			}
			if err := r.ask(t, long, host); err == nil {
				t.Errorf("%s answered", host)
			}
		})
	}
	time.Sleep(long)
	all := stop()
	dead.Wait()
	judge(t, all)
	if by := byLine(all); slices.Min(by[:]) < len(all)*3/10 {
		t.Errorf("shares %v of %d", by, len(all))
	}
	if strings.Contains(r.log.String(), "uplink is ") {
		t.Error("a line was demoted")
	}
}

// All lines are down, then one comes back: it is used within two seconds.
func allDownThenOneBack(t *testing.T, r *running, down func(i int, down bool)) {
	r.exactShares(t, world.SOCKS5, world.Server4, [3]int{20, 20, 20})
	for i := range 3 {
		down(r.first+i, true)
	}
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err := r.ask(t, time.Second, world.Server4); err == nil {
			t.Error("a request was served without a line")
		}
	}
	down(r.first+2, false)
	back := time.Now()
	for {
		err := r.ask(t, time.Second, world.Server4)
		if err == nil {
			break
		}
		if time.Since(back) > 10*time.Second {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	took := time.Since(back)
	t.Logf("first success %v after the return", took.Round(time.Millisecond))
	if took > 2*time.Second {
		t.Errorf("first success %v after the return of a line, want at most 2s", took)
	}
}
