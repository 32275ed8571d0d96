package dispatcher

import (
	"math/rand/v2"
	"strings"
	"testing"
)

func TestPairsTakeNewLinesThenNewDestinations(t *testing.T) {
	t.Parallel()
	lines := house(t).Uplinks()
	d := destinations("192.0.2.1", "192.0.2.2", "192.0.2.3")
	p := pairs{lanes: []lane{{uplink: lines[0], destinations: d}, {uplink: lines[1], destinations: d}}}
	var got []string
	for {
		next, ok := p.next()
		if !ok {
			break
		}
		got = append(got, next.uplink.Name()[:1]+next.destination.Addr().String()[8:])
		if len(got) == 4 {
			p.ruleOut(d[2]) // it refused: f3 must not be dealt any more
		}
	}
	if s := strings.Join(got, " "); s != "f1 s2 f3 s1 f2" {
		t.Errorf("dealt %s", s)
	}
}

func TestPairsDealEachPairOnce(t *testing.T) {
	t.Parallel()
	for range 50 {
		var lanes []lane
		total := 0
		for _, u := range house(t).Uplinks()[:1+rand.IntN(3)] {
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
