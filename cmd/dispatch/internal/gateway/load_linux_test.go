package gateway

import (
	"slices"
	"sync"
	"testing"
	"time"

	"dispatch/testdata/world"
)

// loadRate is how many requests a load makes, a second.
const loadRate = 100

// request is one of a load.
type request struct {
	by   world.Protocol
	at   time.Time
	took time.Duration
	line int // that served it
	err  error
}

// load makes requests at a steady rate, by all protocols and to two destinations in turn, whatever becomes of the ones
// before, until stop is called, which returns them in their order.
func (r *running) load(t *testing.T) (stop func() []*request) {
	hosts := []string{world.Server4, world.OtherServer4}
	protocols := []world.Protocol{world.SOCKS5, world.SOCKS4a, world.CONNECT, world.Plain}
	var all []*request
	var requests sync.WaitGroup
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(time.Second / loadRate)
		defer ticker.Stop()
		for {
			q := &request{by: protocols[len(all)%len(protocols)], at: time.Now(), line: -1}
			host := hosts[len(all)/len(protocols)%len(hosts)]
			all = append(all, q)
			requests.Go(func() {
				peer, err := r.Ask(t.Context(), q.by, host)
				q.took, q.err = time.Since(q.at), err
				q.line = world.LineOf(r.lab, r.first, peer)
			})
			select {
			case <-ended:
				return
			case <-ticker.C:
			}
		}
	}()
	return func() []*request {
		close(ended)
		<-done
		requests.Wait()
		return all
	}
}

// inFlight is the most that a session takes when nothing is wrong.
const inFlight = 100 * time.Millisecond

// judge fails the test for each request that failed, except sessions that a line's death caught under way: of those
// only their application can know whether to begin again.
func judge(t *testing.T, all []*request, cuts ...time.Time) {
	t.Helper()
	var took []time.Duration
	failed, caught := 0, 0
	for _, r := range all {
		if r.err == nil {
			took = append(took, r.took)
			continue
		}
		if slices.ContainsFunc(cuts, func(cut time.Time) bool { return r.at.Before(cut) && r.at.After(cut.Add(-inFlight)) }) {
			caught++
			continue
		}
		if failed++; failed <= 10 {
			t.Errorf("%s, after %v: %v", r.by, r.took, r.err)
		}
	}
	slices.Sort(took)
	if failed > 0 {
		t.Errorf("%d of %d requests failed", failed, len(all))
	}
	t.Logf("%d requests, %d failed, %d caught under way by the death of their line; took p50 %v, p99 %v, worst %v",
		len(all), failed, caught, percentile(took, 50), percentile(took, 99), percentile(took, 100))
}

func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)-1)*p/100].Round(time.Microsecond)
}

// slowShare is the part of requests that took as long as an attempt that is overtaken.
func slowShare(took []time.Duration) float64 {
	slow := 0
	for _, d := range took {
		if d >= 250*time.Millisecond {
			slow++
		}
	}
	return float64(slow) / float64(max(len(took), 1))
}

// between returns the requests that began in a span of time.
func between(all []*request, from, to time.Time) []*request {
	var some []*request
	for _, r := range all {
		if r.at.After(from) && r.at.Before(to) {
			some = append(some, r)
		}
	}
	return some
}

// times is how long those took that were served, the shortest first.
func times(all []*request) []time.Duration {
	var took []time.Duration
	for _, r := range all {
		if r.err == nil {
			took = append(took, r.took)
		}
	}
	slices.Sort(took)
	return took
}

// byLine counts the requests by line.
func byLine(all []*request) (count [3]int) {
	for _, r := range all {
		if r.line >= 0 {
			count[r.line]++
		}
	}
	return count
}
