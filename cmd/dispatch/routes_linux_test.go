package main

import (
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"dispatch/testdata/loopback"
	"dispatch/testdata/netlab"
	"dispatch/testdata/world"
)

// With the strict reverse path filter and routes in the main table alone, only the line with the best metric works.
// --manage-routes makes all work while it runs, also on a new address, and leaves nothing behind; after a crash the next
// start clears away what was left.
func TestManageRoutes(t *testing.T) {
	strict := netlab.Uplink{RPFilter: 1}
	lab := world.New(t, netlab.Config{Uplinks: []netlab.Uplink{strict, strict, strict}})
	routing := func() string {
		t.Helper()
		var all []byte
		for _, args := range [][]string{{"rule"}, {"-6", "rule"}, {"route", "show", "table", "all"}, {"-6", "route", "show", "table", "all"}} {
			out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput()
			if err != nil {
				t.Fatalf("ip %v: %v, %s", args, err, out)
			}
			all = append(all, out...)
		}
		return string(all)
	}
	before := routing()
	begin := func() *process {
		return start(t, "--manage-routes", "--dns", world.DNS, "wan1", "wan2", "wan3")
	}
	p := begin()
	p.ExactShares(t, lab, 0, world.SOCKS5, world.Server4, [3]int{30, 30, 30}, p.log(t))
	next := lab.Uplink(1).IPv4.Addr().Next()
	lab.Readdress(1, netip.PrefixFrom(next, lab.Uplink(1).IPv4.Bits()))
	loopback.Eventually(t, "a rule for the new address", func() bool { return strings.Contains(routing(), "from "+next.String()+" ") })
	p.ExactShares(t, lab, 0, world.SOCKS5, world.Server4, [3]int{30, 30, 30}, p.log(t))

	// Another router, put in the place of the first one.
	table := func() string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "ip", "route", "show", "table", "all", "proto", "209", "dev", "wan3").CombinedOutput()
		if err != nil {
			t.Fatalf("%v, %s", err, out)
		}
		return string(out)
	}
	former := lab.Uplink(2).Gateway4
	other := former.Next().Next()
	for _, via := range []netip.Addr{other, former} {
		replace := []string{"route", "replace", "default", "via", via.String(), "dev", "wan3", "metric", "300"}
		if out, err := exec.CommandContext(t.Context(), "ip", replace...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v, %s", replace, err, out)
		}
		loopback.Eventually(t, "the line's own table to have the router "+via.String(), func() bool { return strings.Contains(table(), "via "+via.String()+" ") })
	}

	// A crash leaves them behind.
	p.signal(t, syscall.SIGKILL)
	p.wait(t)
	if routing() == before {
		t.Error("nothing was installed")
	}
	lab.Readdress(1, netip.PrefixFrom(lab.Uplink(1).IPv4.Addr().Prev(), lab.Uplink(1).IPv4.Bits()))
	p = begin()
	p.ExactShares(t, lab, 0, world.SOCKS5, world.Server4, [3]int{30, 30, 30}, p.log(t))
	p.signal(t, syscall.SIGINT)
	if code := p.wait(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if after := routing(); after != before {
		t.Errorf("before:\n%s\nafterwards:\n%s", before, after)
	}

	// A start that manages none clears them away as well.
	p = begin()
	p.signal(t, syscall.SIGKILL)
	p.wait(t)
	start(t, "wan1").logged(t, 1, "policy routes that an earlier run had left behind were removed")
	if after := routing(); after != before {
		t.Errorf("before:\n%s\nafter a start that does not manage them:\n%s", before, after)
	}
}
