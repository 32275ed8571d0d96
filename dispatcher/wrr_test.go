package dispatcher

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"dispatch/dispatcher/uplink"
)

func weighted(weights ...int) []*uplink.Uplink {
	out := make([]*uplink.Uplink, len(weights))
	for n, w := range weights {
		out[n] = &uplink.Uplink{Spec: uplink.Spec{Name: string(rune('a' + n)), Weight: w}, Number: n}
	}
	return out
}

func pick(w *WeightedRoundRobin, c Choice) *uplink.Uplink { return w.Order(nil, c)[0] }

func TestOrderIsSmooth(t *testing.T) {
	t.Parallel()
	var w WeightedRoundRobin
	var got []string
	for range 20 {
		got = append(got, pick(&w, Choice{Families: uplink.IPv4, Eligible: weighted(5, 3, 2)}).Name())
	}
	if s := strings.Join(got, ""); s != "abcaabacba"+"abcaabacba" {
		t.Errorf("picks %s", s)
	}
}

func TestOrderNamesAllOthersBehind(t *testing.T) {
	t.Parallel()
	var w WeightedRoundRobin
	for range 10 {
		order := w.Order(nil, Choice{Families: uplink.IPv4, Eligible: weighted(5, 3, 2)})
		seen := map[string]bool{}
		for _, u := range order {
			seen[u.Name()] = true
		}
		if len(order) != 3 || len(seen) != 3 {
			t.Fatalf("order of %d uplinks names %d of 3", len(order), len(seen))
		}
	}
}

// In every window of as many picks as the sum of the weights each uplink is picked exactly as often as its weight,
// from the first pick after a change of the eligible set on, and for each family on its own.
func TestOrderIsExactInEveryWindow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := weighted(rapid.SliceOfN(rapid.IntRange(1, 12), 1, 6).Draw(t, "weights")...)
		var w WeightedRoundRobin
		for change := range 4 {
			eligible := all
			if change > 0 {
				eligible = nil
				for _, u := range all {
					if rapid.Bool().Draw(t, "eligible") {
						eligible = append(eligible, u)
					}
				}
				if len(eligible) == 0 {
					continue
				}
			}
			sum := 0
			for _, u := range eligible {
				sum += u.Weight()
			}
			families := rapid.SampledFrom([]uplink.Family{uplink.IPv4, uplink.IPv6, uplink.Both}).Draw(t, "families")
			var picks []*uplink.Uplink
			for range sum + rapid.IntRange(0, 2*sum).Draw(t, "more") {
				picks = append(picks, pick(&w, Choice{Families: families, Eligible: eligible}))
				// Other families' picks in between must not disturb.
				pick(&w, Choice{Families: families ^ 4, Eligible: eligible})
			}
			for from := 0; from+sum <= len(picks); from++ {
				count := map[*uplink.Uplink]int{}
				for _, u := range picks[from : from+sum] {
					count[u]++
				}
				for _, u := range eligible {
					if count[u] != u.Weight() {
						t.Fatalf("window at %d: %s picked %d times, weight %d", from, u.Name(), count[u], u.Weight())
					}
				}
			}
		}
	})
}

func TestOrderIsExactUnderConcurrency(t *testing.T) {
	t.Parallel()
	var w WeightedRoundRobin
	lines := weighted(5, 3, 2)
	var mu sync.Mutex
	count := map[string]int{}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range 100 {
				u := pick(&w, Choice{Families: uplink.Both, Eligible: lines})
				mu.Lock()
				count[u.Name()]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if count["a"] != 500 || count["b"] != 300 || count["c"] != 200 {
		t.Errorf("1000 concurrent picks: %v", count)
	}
}

func TestRotationsAreBounded(t *testing.T) {
	t.Parallel()
	var w WeightedRoundRobin
	lines := weighted(make1(12)...)
	for n := range 4000 {
		var eligible []*uplink.Uplink
		for b, u := range lines {
			if (n+3)&(1<<b) != 0 {
				eligible = append(eligible, u)
			}
		}
		w.Order(nil, Choice{Families: uplink.IPv4, Eligible: eligible})
	}
	if n := len(*w.rotations.Load()); n > maxRotations {
		t.Errorf("%d rotations are kept", n)
	}
}

func make1(n int) []int { return slices.Repeat([]int{1}, n) }

func TestReduced(t *testing.T) {
	t.Parallel()
	if got := reduced([]int{500, 300, 200}); !slices.Equal(got, []int{5, 3, 2}) {
		t.Errorf("got %v", got)
	}
	if got := smooth([]int{1000, 1}); len(got) != 1001 {
		t.Errorf("a period of %d", len(got))
	}
}

func BenchmarkOrder(b *testing.B) {
	var w WeightedRoundRobin
	lines := weighted(5, 3, 2)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var buf [8]*uplink.Uplink
		c := Choice{Families: uplink.Both, Eligible: lines}
		for pb.Next() {
			w.Order(buf[:0], c)
		}
	})
}

func TestPairsTakeNewLinesThenNewDestinations(t *testing.T) {
	t.Parallel()
	lines := weighted(1, 1)
	d := destinations("192.0.2.1", "192.0.2.2", "192.0.2.3")
	p := pairs{lanes: []lane{{uplink: lines[0], destinations: d}, {uplink: lines[1], destinations: d}}}
	var got []string
	for {
		next, ok := p.next()
		if !ok {
			break
		}
		got = append(got, next.uplink.Name()+next.destination.Addr().String()[8:])
		if len(got) == 4 {
			p.ruleOut(d[2]) // it refused: a3 must not be dealt any more
		}
	}
	if s := strings.Join(got, " "); s != "a1 b2 a3 b1 a2" {
		t.Errorf("dealt %s", s)
	}
}

func TestPairsDealEachPairOnce(t *testing.T) {
	t.Parallel()
	for range 50 {
		var lanes []lane
		total := 0
		for _, u := range weighted(make1(1 + rand.IntN(5))...) {
			d := destinations("192.0.2.1", "2001:db8::1", "192.0.2.3")[:1+rand.IntN(3)]
			total += len(d)
			lanes = append(lanes, lane{uplink: u, destinations: d})
		}
		p := pairs{lanes: lanes}
		seen := map[pair]bool{}
		for next, ok := p.next(); ok; next, ok = p.next() {
			if seen[next] {
				t.Fatalf("%v dealt twice", next)
			}
			if seen[next] = true; len(seen) <= len(lanes) && next.uplink != lanes[len(seen)-1].uplink {
				t.Fatalf("deal %d went to %s before all lines had been tried", len(seen), next.uplink.Name())
			}
		}
		if len(seen) != total {
			t.Fatalf("dealt %d of %d", len(seen), total)
		}
	}
}
