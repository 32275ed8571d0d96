package gateway

import (
	"testing"
	"time"

	"dispatch/cmd/dispatch/internal/config"
	"dispatch/testdata/netlab"
	"dispatch/testdata/world"
)

// With weights 5:3:2, 1,000 connections are shared exactly 500:300:200, whichever protocol asks; with the strict
// reverse path filter of some systems and the loose one of others.
func TestSharesOverProtocols(t *testing.T) {
	loose, strict := netlab.Uplink{RPFilter: 2}, netlab.Uplink{RPFilter: 1, PolicyRoutes: true}
	lab := world.New(t, netlab.Config{Uplinks: []netlab.Uplink{loose, loose, loose, strict, strict, strict}})
	for name, c := range map[string]struct {
		first int
		lines []string
	}{
		"loose filter, metric routes":  {0, []string{"wan1@5", "wan2@3", "wan3@2"}},
		"strict filter, policy routes": {3, []string{"wan4@5", "wan5@3", "wan6@2"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := begin(t, lab, c.first, config.Flags{DNS: world.DNS, Uplinks: c.lines})
			for _, by := range world.Protocols {
				start := time.Now()
				r.exactShares(t, by, world.NameOfFour, [3]int{500, 300, 200})
				t.Logf("%s: 1000 connections shared 500:300:200 in %s", by, time.Since(start).Round(time.Millisecond))
			}
		})
	}
}

func TestNamesOfEachKind(t *testing.T) {
	lab := world.New(t, netlab.Config{Uplinks: []netlab.Uplink{{NoIPv6: true}, {NoIPv4: true}, {}}})
	r := begin(t, lab, 0, config.Flags{DNS: world.DNS, Uplinks: []string{"wan1@5", "wan2@3", "wan3@2"}})
	for _, by := range world.Protocols {
		for host, want := range map[string][3]int{
			world.NameOfFour: {50, 0, 20}, world.NameOfSix: {0, 42, 28}, world.NameOfBoth: {35, 21, 14},
		} {
			r.exactShares(t, by, host, want)
		}
		// Its first address is silent: a line's attempt there is overtaken by another line's at the living one.
		if got := r.Shares(t, lab, 0, by, world.NameOfDead, 14); got[0]+got[2] != 14 {
			t.Errorf("%s to %s: %v of 14 were served", by, world.NameOfDead, got)
		}
		// That is remembered: then every line serves its own share.
		r.exactShares(t, by, world.NameOfDead, [3]int{50, 0, 20})
	}
}

// One line has no default route: its turns are served by the others, whatever the protocol.
func TestLineWithoutRoute(t *testing.T) {
	lab := world.New(t, netlab.Config{Uplinks: []netlab.Uplink{{}, {NoDefault4: true, NoDefault6: true}, {}}})
	r := begin(t, lab, 0, config.Flags{Uplinks: []string{"wan1", "wan2", "wan3"}})
	for _, by := range world.Protocols {
		if got := r.Shares(t, lab, 0, by, world.Server4, 6); got[0]+got[2] != 6 {
			t.Errorf("%s: shares %v", by, got)
		}
	}
	told := r.Examine(t.Context())
	for _, family := range []string{"ipv4", "ipv6"} {
		r.log.when(t, time.Time{}, "line will not work", `"uplink":"wan2"`, `"family":"`+family+`"`, `"check":"default_route"`)
		r.log.when(t, time.Time{}, "uplink is suspect", `"uplink":"wan2"`, `"family":"`+family+`"`)
	}
	if len(told) != 2 || told[0].Line != "wan2" || told[1].Line != "wan2" {
		t.Errorf("warnings: %+v", told)
	}
}
