package gateway

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"dispatch/cmd/dispatch/internal/config"
	"dispatch/dispatcher/uplink"
	"dispatch/testdata/netlab"
	"dispatch/testdata/world"
)

// Lines are applied in and out while clients of all protocols ask: no request fails, and the shares are exact at once.
func TestApplyUnderLoad(t *testing.T) {
	lab := world.New(t, netlab.Config{})
	r := begin(t, lab, 0, config.Flags{Uplinks: []string{"wan1@5", "wan2@3", "wan3@2"}, DNS: world.DNS})
	r.exactShares(t, world.SOCKS5, world.Server4, [3]int{5, 3, 2})
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var mu sync.Mutex
	asked := 0
	for n := range 4 {
		load.Go(func() {
			for at := n; ctx.Err() == nil; at++ {
				by := world.Protocols[at%len(world.Protocols)]
				if _, err := r.Ask(t.Context(), by, world.NameOfFour); err != nil {
					t.Errorf("by %s: %v", by, err)
				}
				mu.Lock()
				asked++
				mu.Unlock()
			}
		})
	}
	changes := 0
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); changes++ {
		names := []string{"wan1", "wan2", "wan3"}
		rand.Shuffle(len(names), func(a, b int) { names[a], names[b] = names[b], names[a] })
		var specs []uplink.Spec
		for _, name := range names[:1+rand.IntN(3)] {
			specs = append(specs, uplink.Spec{Name: name, Weight: 1 + rand.IntN(9)})
		}
		if err := r.Apply(specs); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
	}
	stop()
	load.Wait()
	t.Logf("%d requests during %d changes", asked, changes)
	if err := r.Apply([]uplink.Spec{{Name: "wan1", Weight: 1}, {Name: "wan2", Weight: 2}, {Name: "wan3", Weight: 7}}); err != nil {
		t.Fatal(err)
	}
	for _, by := range []world.Protocol{world.CONNECT, world.Plain} {
		r.exactShares(t, by, world.Server4, [3]int{2, 4, 14})
	}
	if s := r.State().Sessions.All; s.Failed != 0 {
		t.Errorf("%d sessions failed", s.Failed)
	}
}
