package balance

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
)

// weighted is a fleet of lines a, b, c ... with these weights.
func weighted(t testing.TB, weights ...int) *uplink.Fleet {
	t.Helper()
	var interfaces []machine.Interface
	var specs []uplink.Spec
	for n := range weights {
		name := string(rune('a' + n))
		interfaces = append(interfaces, machine.Interface{Index: n + 1, Name: name})
		specs = append(specs, uplink.Spec{Name: name, Weight: weights[n]})
	}
	f, err := uplink.NewFleet(&machine.Table{List: func() ([]machine.Interface, error) { return interfaces, nil }}, specs)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// among is a choice among those lines of the fleet that are named, all without any.
func among(t testing.TB, f *uplink.Fleet, names ...string) Choice {
	t.Helper()
	view, err := f.View()
	if err != nil {
		t.Fatal(err)
	}
	c := Choice{Families: uplink.IPv4, View: view}
	for _, l := range view.Bindings {
		if names == nil || slices.Contains(names, l.Uplink.Name()) {
			c.Lines = c.Lines.With(l.Uplink.ID())
		}
	}
	return c
}

func pick(w *WeightedRoundRobin, c Choice) string {
	return c.View.Binding(w.Order(nil, c)[0]).Uplink.Name()
}

func TestOrderIsSmooth(t *testing.T) {
	t.Parallel()
	var w WeightedRoundRobin
	f := weighted(t, 5, 3, 2)
	var got []string
	for range 20 {
		got = append(got, pick(&w, among(t, f)))
	}
	if s := strings.Join(got, ""); s != "abcaabacba"+"abcaabacba" {
		t.Errorf("picks %s", s)
	}
}

func TestOrderNamesAllOthersBehind(t *testing.T) {
	t.Parallel()
	var w WeightedRoundRobin
	for range 10 {
		c := among(t, weighted(t, 5, 3, 2))
		var seen uplink.IDs
		order := w.Order(nil, c)
		for _, id := range order {
			seen = seen.With(id)
		}
		if len(order) != 3 || seen != c.Lines {
			t.Fatalf("order %v of %b", order, c.Lines)
		}
	}
}

// In every window of as many picks as the sum of the weights each uplink is picked exactly as often as its weight,
// from the first pick after a change of the lines to choose from or of the fleet on, and for each family on its own.
func TestOrderIsExactInEveryWindow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(1, 12), 1, 6).Draw(r, "weights")
		f := weighted(t, weights...)
		var w WeightedRoundRobin
		for change := range 5 {
			c := among(t, f)
			switch change {
			case 0:
			case 3: // the fleet changes: lines may leave, come back, have other weights, and with them other places
				var specs []uplink.Spec
				for n := range weights {
					if rapid.Bool().Draw(r, "stays") {
						specs = append(specs, uplink.Spec{Name: string(rune('a' + n)), Weight: rapid.IntRange(1, 12).Draw(r, "weight")})
					}
				}
				if _, err := f.Apply(specs); (err != nil) != (len(specs) == 0) {
					r.Fatal(err)
				}
				c = among(t, f)
			default:
				for id := range c.Lines.All() {
					if rapid.Bool().Draw(r, "left out") {
						c.Lines = c.Lines.Without(id)
					}
				}
				if c.Lines == 0 {
					continue
				}
			}
			sum := 0
			for id := range c.Lines.All() {
				sum += c.View.Binding(id).Weight
			}
			c.Families = rapid.SampledFrom([]uplink.Family{uplink.IPv4, uplink.IPv6, uplink.Both}).Draw(r, "families")
			others := c
			others.Families ^= 4
			var picks []uplink.ID
			for range sum + rapid.IntRange(0, 2*sum).Draw(r, "more") {
				picks = append(picks, w.Order(nil, c)[0])
				w.Order(nil, others) // must not disturb
			}
			for from := 0; from+sum <= len(picks); from++ {
				var count [uplink.MaxUplinks]int
				for _, id := range picks[from : from+sum] {
					count[id]++
				}
				for id := range c.Lines.All() {
					if l := c.View.Binding(id); count[id] != l.Weight {
						r.Fatalf("window at %d: %s picked %d times, weight %d", from, l.Uplink.Name(), count[id], l.Weight)
					}
				}
			}
		}
	})
}

// A change of the fleet that leaves a set of lines as it was leaves its rotation where it was.
func TestOrderGoesOnWhereItsLinesAreUnchanged(t *testing.T) {
	t.Parallel()
	var w WeightedRoundRobin
	f := weighted(t, 5, 3, 2, 9)
	three := func() Choice { return among(t, f, "a", "b", "c") }
	got := pick(&w, three()) + pick(&w, three())
	if _, err := f.Apply(f.Specs()[:3]); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		got += pick(&w, three())
	}
	if got != "abcaabacba" {
		t.Errorf("picks %s", got)
	}
}

func TestOrderIsExactUnderConcurrency(t *testing.T) {
	t.Parallel()
	var w WeightedRoundRobin
	c := among(t, weighted(t, 5, 3, 2))
	c.Families = uplink.Both
	var mu sync.Mutex
	count := map[string]int{}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range 100 {
				name := pick(&w, c)
				mu.Lock()
				count[name]++
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
	c := among(t, weighted(t, slices.Repeat([]int{1}, 12)...))
	for set := uplink.IDs(3); set < 4000; set++ {
		c.Lines = set
		w.Order(nil, c)
	}
	if n := len(*w.rotations.Load()); n > maxRotations {
		t.Errorf("%d rotations are kept", n)
	}
}

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
	c := among(b, weighted(b, 5, 3, 2))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var buf [8]uplink.ID
		for pb.Next() {
			w.Order(buf[:0], c)
		}
	})
}
