package policyroutes_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dispatch/dispatcher/doctor"
	"dispatch/dispatcher/policyroutes"
	"dispatch/testdata/netlab"
	"dispatch/testdata/routing"
)

var lanAddresses = []string{"198.51.100.2", "203.0.113.2"}

// twoRoutersOnOneLAN gives one interface the addresses of two lines, whose routers are on the same network.
func twoRoutersOnOneLAN(t *testing.T) (server netip.AddrPort) {
	t.Helper()
	lab := netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{only4, only4}})
	routing.Run(t, "ip link add lan0 type bridge", "ip link set lan0 up", "sysctl -qw net/ipv4/conf/lan0/rp_filter=2")
	t.Cleanup(func() { routing.Run(t, "ip link del lan0") })
	for n, wan := range []string{"wan1", "wan2"} {
		router := strings.TrimSuffix(lanAddresses[n], "2") + "1"
		routing.Run(t, "ip addr flush dev "+wan, "ip link set "+wan+" master lan0", "ip addr add "+lanAddresses[n]+"/24 dev lan0",
			"ip route add default via "+router+" dev lan0 metric "+[]string{"100", "200"}[n])
	}
	waitUp(t, "lan0")
	return lab.EchoPeer(t, netip.AddrPortFrom(lab.Server4, 0))
}

func plan(t *testing.T, names ...string) *policyroutes.Change {
	t.Helper()
	c, err := policyroutes.PlanFix(routing.Specs(t, names...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func fix(t *testing.T, names ...string) {
	t.Helper()
	c := plan(t, names...)
	if len(c.Missing) > 0 || len(c.Commands) == 0 {
		t.Errorf("missing %v, to do %q", c.Missing, c.Commands)
	}
	if err := c.Make(); err != nil {
		t.Fatal(err)
	}
}

// Two lines may be two addresses of one interface: an office whose two routers hang on one switch.
func TestTwoRoutersOnOneInterface(t *testing.T) {
	server := twoRoutersOnOneLAN(t)
	if got, err := routing.DialUntil(lanAddresses[1], server); err == nil {
		t.Fatalf("without policy routes, the second address was let through as %s", got)
	}
	report, err := doctor.Examine(t.Context(), routing.Specs(t, lanAddresses...), doctor.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for n, l := range report.Lines {
		wrong := slices.IndexFunc(l.Findings, func(f doctor.Finding) bool { return f.Check == doctor.CheckRoute && f.Status == doctor.Fail })
		if wrong >= 0 != (n == 1) {
			t.Errorf("%s: %+v", l.Uplink, l.Findings)
		}
		if wrong >= 0 {
			t.Log(l.Findings[wrong].Text)
		}
	}

	before := dump(t)
	defer func() { same(t, "in the end", dump(t), before) }()
	for name, install := range map[string]func(){
		"together":   func() { fix(t, lanAddresses...) },
		"one by one": func() { fix(t, lanAddresses[0]); fix(t, lanAddresses[1]) },
		"as printed": func() { routing.Run(t, printed(t, lanAddresses[1])...) },
	} {
		t.Run(name, func(t *testing.T) {
			defer routing.ClearPolicies(t)
			install()
			for _, addr := range lanAddresses {
				reaches(t, addr, server, addr)
			}
			if c := plan(t, lanAddresses[0]); len(c.Commands) > 0 && name != "as printed" {
				t.Errorf("there is still to do %q", c.Commands)
			}
		})
	}
	t.Run("managed", func(t *testing.T) {
		r := policyroutes.New()
		defer remove(t, r)
		if missing := apply(t, r, lanAddresses...); len(missing) > 0 {
			t.Errorf("missing: %v", missing)
		}
		for _, addr := range lanAddresses {
			reaches(t, addr, server, addr)
		}
		settled := dump(t)
		apply(t, r, lanAddresses...)
		same(t, "after another look", dump(t), settled)
		apply(t, r, lanAddresses[1])
		reaches(t, lanAddresses[1], server, lanAddresses[1])
	})
}

// printed are the commands that the doctor prints for a line.
func printed(t *testing.T, name string) (commands []string) {
	t.Helper()
	report, err := doctor.Examine(t.Context(), routing.Specs(t, name), doctor.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Lines[0].Findings {
		commands = append(commands, f.Commands...)
	}
	return commands
}
