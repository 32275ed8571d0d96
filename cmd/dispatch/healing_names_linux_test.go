package main

import (
	"slices"
	"testing"
	"time"

	"dispatch/testdata/netlab"
)

// A line falls silent while only a host with several addresses is asked for. The others win at another of its addresses
// each time: still the line becomes suspect, in both families, and nobody waits for it any more.
func TestHealingSilenceAtAHostOfSeveralAddresses(t *testing.T) {
	lab := world(t, netlab.Config{})
	p := start(t, "--dns", dnsServer, "wan1", "wan2", "wan3")
	ask := func(n int) (took []time.Duration) {
		for range n {
			start := time.Now()
			if _, err := clients["SOCKS5"](t.Context(), p, nameOfBoth); err != nil {
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
	lab.Silence(0, true)
	first := ask(60)
	for _, family := range []string{`"ipv4"`, `"ipv6"`} {
		p.when(t, cut, "uplink is suspect", `"wan1"`, family)
	}
	meanwhile := ask(60)
	t.Logf("after the line's silence 60 requests took p50 %v, worst %v; once it was suspect p50 %v, worst %v",
		percentile(first, 50), percentile(first, 100), percentile(meanwhile, 50), percentile(meanwhile, 100))
	if slow := slowShare(meanwhile); slow > 0.1 {
		t.Errorf("%.2f of the requests were slow: they still wait for the line", slow)
	}
}
