package policyroutes_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dispatch/dispatcher/doctor"
	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/policyroutes"
	"dispatch/testdata/netlab"
	"dispatch/testdata/routing"
)

// only4 is a line of one family.
var only4 = netlab.Uplink{NoIPv6: true}

// strict are lines that work by a policy route only: rp_filter=1, and the second without a default route of IPv4.
var strict = netlab.Config{Uplinks: []netlab.Uplink{{RPFilter: 1}, {RPFilter: 1}, {RPFilter: 1, NoDefault6: true}}}

// dump lists all rules and routes, as they can be compared.
func dump(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, f := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := netlink.RuleList(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rules {
			list = append(list, fmt.Sprintf("rule %d %s protocol %d suppress %d", f, r, r.Protocol, r.SuppressPrefixlen))
		}
		routes, err := netlink.RouteListFiltered(f, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			list = append(list, fmt.Sprintf("route %d table %d protocol %d %s", f, r.Table, r.Protocol, r))
		}
	}
	slices.Sort(list)
	return list
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n%s\nnot\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func apply(t *testing.T, r *policyroutes.Routes, names ...string) []policyroutes.Missing {
	t.Helper()
	missing, err := r.Apply(routing.Specs(t, names...)...)
	if err != nil {
		t.Fatal(err)
	}
	return missing
}

// reaches fails unless the server sees the source.
func reaches(t *testing.T, name string, server netip.AddrPort, source string) {
	t.Helper()
	got, err := routing.DialUntil(name, server)
	if err != nil || got.String() != source {
		t.Errorf("by %s the server saw %v, %v; not %s", name, got, err, source)
	}
}

func TestRoutesComeAndGo(t *testing.T) {
	lab := netlab.New(t, strict)
	server4 := lab.EchoPeer(t, netip.AddrPortFrom(lab.Server4, 0))
	server6 := lab.EchoPeer(t, netip.AddrPortFrom(lab.Server6, 0))
	names := []string{"wan1", "wan2", "wan3"}
	routing.Meet(t, "2001:db8:3::1", "")
	if _, err := routing.Dial("wan2", server4, 300*time.Millisecond); err == nil {
		t.Fatal("wan2 works without a policy route")
	}
	if _, err := routing.Dial("wan3", server6, 300*time.Millisecond); err == nil {
		t.Fatal("wan3 works without a policy route")
	}

	r := policyroutes.New()
	if missing := apply(t, r, names...); len(missing) > 0 {
		t.Errorf("missing: %v", missing)
	}
	for n, name := range names {
		reaches(t, name, server4, []string{"198.51.100.2", "203.0.113.2", "100.64.2.2"}[n])
		reaches(t, name, server6, fmt.Sprintf("2001:db8:%d::2", n+1))
	}
	if report := routing.Examine(t, doctor.Options{RouterTimeout: -1}, names...); !report.Usable {
		t.Errorf("not usable: %v", report)
	}
	first := dump(t)
	apply(t, r, names...)
	same(t, "after a second Apply", dump(t), first)

	t.Run("link down and up", func(t *testing.T) {
		// The kernel forgets the routes, and nobody is there to bring the main table's back.
		routing.Run(t, "ip link set wan2 down")
		if missing := apply(t, r, names...); len(missing) != 1 || missing[0].Uplink != "wan2" {
			t.Errorf("missing: %v", missing)
		}
		routing.Run(t, "ip link set wan2 up")
		waitUp(t, "wan2")
		apply(t, r, names...)
		reaches(t, "wan2", server4, "203.0.113.2")
		lab.ClientLink(1, true)
	})
	t.Run("new address", func(t *testing.T) {
		lab.Readdress(1, netip.MustParsePrefix("203.0.113.7/24"))
		apply(t, r, names...)
		reaches(t, "wan2", server4, "203.0.113.7")
		for _, line := range dump(t) {
			if strings.Contains(line, "203.0.113.2/32") && strings.Contains(line, "protocol 209") {
				t.Errorf("left of the old address: %s", line)
			}
		}
		lab.Readdress(1, netip.MustParsePrefix("203.0.113.2/24"))
		apply(t, r, names...)
	})
	t.Run("another router", func(t *testing.T) {
		routing.Run(t, "ip route replace default via 203.0.113.9 dev wan2 metric 200")
		if missing := apply(t, r, names...); len(missing) > 0 {
			t.Errorf("missing: %v", missing)
		}
		if text := strings.Join(dump(t), "\n"); strings.Count(text, "Gw: 203.0.113.9") != 2 || strings.Contains(text, "Gw: 203.0.113.1 ") {
			t.Errorf("the router is not followed:\n%s", text)
		}
		routing.Run(t, "ip route replace default via 203.0.113.1 dev wan2 metric 200")
		apply(t, r, names...)
	})
	t.Run("unplugged", func(t *testing.T) {
		lab.Unplug(2)
		if missing := apply(t, r, names...); len(missing) != 1 || missing[0].Uplink != "wan3" {
			t.Errorf("missing: %v", missing)
		}
		lab.Plug(2)
		apply(t, r, names...)
		reaches(t, "wan3", server4, "100.64.2.2")
	})
	if err := r.Remove(); err != nil {
		t.Fatal(err)
	}
	for _, line := range dump(t) {
		if strings.Contains(line, "protocol 209") {
			t.Errorf("left behind: %s", line)
		}
	}
	if err := r.Remove(); err != nil {
		t.Errorf("nothing to remove: %v", err)
	}
}

// Other hosts still reach an address that has a policy by their own way.
func TestPolicyLeavesOtherNetworksAlone(t *testing.T) {
	netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{only4, only4}})
	r := policyroutes.New()
	apply(t, r, "wan1", "wan2")
	defer remove(t, r)
	routing.Run(t, "ip route add 10.99.0.0/16 via 203.0.113.99 dev wan2")
	found, err := netlink.RouteGetWithOptions([]byte{10, 99, 0, 1}, &netlink.RouteGetOptions{SrcAddr: []byte{198, 51, 100, 2}})
	if err != nil || len(found) != 1 || found[0].Gw.String() != "203.0.113.99" {
		t.Errorf("what answers from wan1's address to a network behind wan2 leaves by %v, %v", found, err)
	}
}

func remove(t *testing.T, r *policyroutes.Routes) {
	t.Helper()
	if err := r.Remove(); err != nil {
		t.Error(err)
	}
}

func TestRoutesLeaveExactlyWhatWasThere(t *testing.T) {
	netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{{PolicyRoutes: true}, {RPFilter: 1}}})
	routing.Run(t, "ip rule add pref 5101 from 192.0.2.1 lookup main", "ip route add 192.0.2.0/24 dev wan1 table 209000000")
	t.Cleanup(func() { routing.Run(t, "ip rule del pref 5101 from 192.0.2.1 lookup main") })
	before := dump(t)
	r := policyroutes.New()
	apply(t, r, "wan1", "wan2")
	if slices.Equal(dump(t), before) {
		t.Error("nothing was installed")
	}
	remove(t, r)
	same(t, "after Remove", dump(t), before)

	for _, names := range [][]string{{"wan2"}, {"wan1", "wan2"}} {
		c, err := policyroutes.PlanFix(routing.Specs(t, names...))
		if err != nil {
			t.Fatal(err)
		}
		same(t, "after PlanFix", dump(t), before)
		if len(c.Commands) == 0 || len(c.Missing) > 0 {
			t.Errorf("planned %q, missing %v", c.Commands, c.Missing)
		}
		// The printed commands do what Make does.
		routing.Run(t, c.Commands...)
		byHand := dump(t)
		routing.ClearPolicies(t)
		same(t, "after PlanUnfix of commands run by hand", dump(t), before)
		if err := errors.Join(c.Make(), c.Close()); err != nil {
			t.Fatal(err)
		}
		same(t, "made by Make, and by hand", dump(t), byHand)
		again, err := policyroutes.PlanFix(routing.Specs(t, names...))
		if err != nil {
			t.Fatal(err)
		}
		if len(again.Commands) > 0 {
			t.Errorf("a second fix would %q", again.Commands)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
		routing.ClearPolicies(t)
		same(t, "after PlanUnfix", dump(t), before)
	}
}

func TestOwnersDoNotTouchEachOther(t *testing.T) {
	lab := netlab.New(t, strict)
	before := dump(t)
	fix, err := policyroutes.PlanFix(routing.Specs(t, "wan1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(fix.Make(), fix.Close()); err != nil {
		t.Fatal(err)
	}
	fixed := dump(t)

	a, b := policyroutes.New(), policyroutes.New()
	apply(t, a, "wan1", "wan2")
	if missing, err := b.Apply(routing.Specs(t, "wan1")...); err == nil || !strings.Contains(err.Error(), "another process manages routes") {
		t.Errorf("a second owner: %v, %v", missing, err)
	}
	server := lab.EchoPeer(t, netip.AddrPortFrom(lab.Server4, 0))
	reaches(t, "wan2", server, "203.0.113.2")

	// a dies; whoever comes next clears up after it, and leaves the administrator's alone.
	if err := a.Die(); err != nil {
		t.Fatal(err)
	}
	apply(t, b, "wan1")
	remove(t, b)
	same(t, "after the dead one's were cleared away", dump(t), fixed)

	// --unfix removes the administrator's, and none of the living.
	apply(t, b, "wan2")
	routing.ClearPolicies(t)
	reaches(t, "wan2", server, "203.0.113.2")
	remove(t, b)
	same(t, "in the end", dump(t), before)

	// And the dead one's.
	apply(t, b, "wan2")
	if err := b.Die(); err != nil {
		t.Fatal(err)
	}
	routing.ClearPolicies(t)
	same(t, "after the dead one's were removed by --unfix", dump(t), before)
}

func TestRoutesSayWhatIsMissing(t *testing.T) {
	netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{only4, {NoIPv6: true, NoDefault4: true}}})
	r := policyroutes.New()
	defer remove(t, r)
	missing := apply(t, r, "wan1", "wan2", "nothing0")
	if len(missing) != 2 || missing[0].Uplink != "wan2" || missing[0].Family != machine.IPv4 || missing[1].Uplink != "nothing0" {
		t.Errorf("missing: %v", missing)
	}
}

func waitUp(t *testing.T, name string) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if link, err := netlink.LinkByName(name); err == nil && link.Attrs().OperState == netlink.OperUp {
			return
		}
	}
	t.Fatalf("%s does not come up", name)
}
