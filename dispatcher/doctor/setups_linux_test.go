package doctor_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dispatch/dispatcher/doctor"
	"dispatch/dispatcher/machine"
	"dispatch/testdata/netlab"
	"dispatch/testdata/routing"
)

// only4 and only6 are lines of one family.
var (
	only4 = netlab.Uplink{NoIPv6: true}
	only6 = netlab.Uplink{NoIPv4: true}
)

// The broken set-ups of the design. Each is made, seen to be broken, named by the doctor, mended with the commands it
// prints and nothing else, and then carries a connection whose source the server saw.
func TestBrokenSetups(t *testing.T) {
	for _, c := range []struct {
		name     string
		uplinks  []netlab.Uplink
		breaks   func(*testing.T, *netlab.Lab)
		examine  []string // the uplinks; the last of them is the broken one
		family   machine.Family
		wants    []string // the findings that are not passes, as check/family/status, in the report's order
		worksYet bool     // it is odd, but works
		source   string   // what the server has to see once it is mended
		then     string   // what the network manager of a real machine does after the commands
		hopeless bool     // no command can mend it
	}{
		{
			name:    "no default route",
			uplinks: []netlab.Uplink{only4, {NoIPv6: true, NoDefault4: true}},
			breaks: func(t *testing.T, _ *netlab.Lab) {
				routing.Run(t, "ip route add default via 203.0.113.1 dev wan2 table 77")
			},
			examine: []string{"wan1", "wan2"}, family: machine.IPv4,
			wants: []string{"default_route/ipv4/fail"}, source: "203.0.113.2",
		},
		{
			name:    "no default route and rp_filter",
			uplinks: []netlab.Uplink{only4, {NoIPv6: true, NoDefault4: true, RPFilter: 1}},
			breaks: func(t *testing.T, _ *netlab.Lab) {
				routing.Run(t, "ip route add default via 203.0.113.1 dev wan2 table 77")
			},
			examine: []string{"wan1", "wan2"}, family: machine.IPv4,
			wants: []string{"default_route/ipv4/fail"}, source: "203.0.113.2",
		},
		{
			name:    "no default route and no trace of a router",
			uplinks: []netlab.Uplink{only4, {NoIPv6: true, NoDefault4: true}},
			examine: []string{"wan1", "wan2"}, family: machine.IPv4,
			wants: []string{"default_route/ipv4/fail"}, hopeless: true,
		},
		{
			name:    "rp_filter is strict",
			uplinks: []netlab.Uplink{only4, {NoIPv6: true, RPFilter: 1}},
			examine: []string{"wan1", "wan2"}, family: machine.IPv4,
			wants: []string{"rp_filter/ipv4/fail"}, source: "203.0.113.2",
		},
		{
			name:    "address gone, uplink by address",
			uplinks: []netlab.Uplink{only4, only4},
			breaks:  func(_ *testing.T, lab *netlab.Lab) { lab.DelAddr(1, lab.Uplink(1).IPv4.Addr()) },
			examine: []string{"wan1", "203.0.113.2"}, family: machine.IPv4,
			wants: []string{"source/ipv4/fail"}, hopeless: true,
		},
		{
			name:    "address gone, uplink by name",
			uplinks: []netlab.Uplink{only4, only4},
			breaks:  func(_ *testing.T, lab *netlab.Lab) { lab.DelAddr(1, lab.Uplink(1).IPv4.Addr()) },
			examine: []string{"wan1", "wan2"}, family: machine.IPv4,
			wants: []string{"source//fail"}, hopeless: true,
		},
		{
			name:    "link down",
			uplinks: []netlab.Uplink{only4, only4},
			breaks:  func(t *testing.T, _ *netlab.Lab) { routing.Run(t, "ip link set wan2 down") },
			examine: []string{"wan1", "wan2"}, family: machine.IPv4,
			wants: []string{"interface//fail"}, source: "203.0.113.2",
			then: "ip route add default via 203.0.113.1 dev wan2 metric 200",
		},
		{
			name:    "no carrier",
			uplinks: []netlab.Uplink{only4, only4},
			breaks:  func(_ *testing.T, lab *netlab.Lab) { lab.ISPLink(1, false) },
			examine: []string{"wan1", "wan2"}, family: machine.IPv4,
			wants: []string{"carrier//fail"}, hopeless: true,
		},
		{
			name:    "router that is not there",
			uplinks: []netlab.Uplink{only4, only4},
			breaks: func(t *testing.T, _ *netlab.Lab) {
				routing.Run(t, "ip route replace default via 203.0.113.9 dev wan2 metric 200")
				askQuickly(t, "wan2")
			},
			examine: []string{"wan1", "wan2"}, family: machine.IPv4,
			wants: []string{"gateway/ipv4/fail"}, hopeless: true,
		},
		{
			name:    "router dead",
			uplinks: []netlab.Uplink{only4, only4},
			breaks: func(t *testing.T, lab *netlab.Lab) {
				lab.SilenceAll(1, true)
				askQuickly(t, "wan2")
			},
			examine: []string{"wan1", "wan2"}, family: machine.IPv4,
			wants: []string{"gateway/ipv4/fail"}, hopeless: true,
		},
		{
			name:    "two lines on one network",
			uplinks: []netlab.Uplink{only4},
			breaks: func(t *testing.T, lab *netlab.Lab) {
				secondLine(t, 2)
				routing.Run(t, "ip route add default via 198.51.100.1 dev lan2 metric 300")
				if _, err := routing.Dial("lan2", netip.MustParseAddrPort("198.51.100.1:9"), time.Second); !errors.Is(err, unix.ECONNREFUSED) {
					t.Fatalf("lan2 does not know its router: %v", err)
				}
				confuse(t, lab)
			},
			examine: []string{"wan1", "lan2"}, family: machine.IPv4,
			wants: []string{"shared_network/ipv4/fail"}, source: "198.51.100.3",
		},
		{
			name:    "two lines on one network, the second without a route, rp_filter strict",
			uplinks: []netlab.Uplink{{NoIPv6: true, RPFilter: 1}},
			breaks:  func(t *testing.T, _ *netlab.Lab) { secondLine(t, 1) },
			examine: []string{"wan1", "lan2"}, family: machine.IPv4,
			wants: []string{"default_route/ipv4/fail", "shared_network/ipv4/fail"}, source: "198.51.100.3",
		},
		{
			name:    "VPN that has replaced the default route",
			uplinks: []netlab.Uplink{only4},
			breaks: func(t *testing.T, lab *netlab.Lab) {
				startVPN(t, "0.0.0.0/0")
				routing.Run(t, "ip route add 198.18.0.99/32 via 198.51.100.1 dev wan1")
				lab.SetDefault4(0, false)
			},
			examine: []string{"wan1"}, family: machine.IPv4,
			wants: []string{"default_route/ipv4/fail", "vpn/ipv4/warn"}, source: "198.51.100.2",
		},
		{
			name:    "VPN that splits the default route, rp_filter strict",
			uplinks: []netlab.Uplink{{NoIPv6: true, RPFilter: 1}},
			breaks:  func(t *testing.T, _ *netlab.Lab) { startVPN(t, "0.0.0.0/1", "128.0.0.0/1") },
			examine: []string{"wan1"}, family: machine.IPv4,
			wants: []string{"rp_filter/ipv4/fail", "vpn/ipv4/warn"}, source: "198.51.100.2",
		},
		{
			name:    "rule that discards",
			uplinks: []netlab.Uplink{only4, only4},
			breaks: func(t *testing.T, _ *netlab.Lab) {
				routing.Run(t, "ip rule add pref 400 from 203.0.113.0/24 prohibit", "ip rule add pref 400 from 192.0.2.0/24 blackhole")
				t.Cleanup(func() { routing.Run(t, "ip rule del pref 400 from 192.0.2.0/24") })
			},
			examine: []string{"wan1", "wan2"}, family: machine.IPv4,
			wants: []string{"rules/ipv4/fail"}, source: "203.0.113.2",
		},
		{
			name:    "IPv6 rule that discards",
			uplinks: []netlab.Uplink{only6},
			breaks:  func(t *testing.T, _ *netlab.Lab) { routing.Run(t, "ip -6 rule add pref 400 oif wan1 unreachable") },
			examine: []string{"wan1"}, family: machine.IPv6,
			wants: []string{"rules/ipv6/fail"}, source: "2001:db8:1::2",
		},
		{
			name:    "kill switch",
			uplinks: []netlab.Uplink{only4},
			breaks: func(t *testing.T, _ *netlab.Lab) {
				routing.Run(t, "ip route add unreachable default table 51820", "ip rule add pref 32700 not fwmark 51820 lookup 51820")
				t.Cleanup(func() {
					routing.Run(t, "ip route del unreachable default table 51820", "ip rule del pref 32700")
				})
			},
			examine: []string{"wan1"}, family: machine.IPv4,
			wants: []string{"rules/ipv4/fail"}, source: "198.51.100.2",
		},
		{
			name:    "IPv6 without a route, the router is known as one",
			uplinks: []netlab.Uplink{only6, {NoIPv4: true, NoDefault6: true, Gateway6: netip.MustParseAddr("fe80::1:1")}},
			breaks:  func(t *testing.T, _ *netlab.Lab) { routing.Meet(t, "fe80::1:1", "wan2") },
			examine: []string{"wan1", "wan2"}, family: machine.IPv6,
			wants: []string{"default_route/ipv6/fail"}, source: "2001:db8:2::2",
		},
		{
			name:    "IPv6 without a route beside IPv4 that works",
			uplinks: []netlab.Uplink{{}, {NoDefault6: true}},
			breaks:  func(t *testing.T, _ *netlab.Lab) { routing.Meet(t, "2001:db8:2::1", "") },
			examine: []string{"wan1", "wan2"}, family: machine.IPv6,
			wants: []string{"default_route/ipv6/fail"}, source: "2001:db8:2::2",
		},
		{
			name:    "duplicate uplink",
			uplinks: []netlab.Uplink{only4},
			examine: []string{"wan1", "198.51.100.2"}, family: machine.IPv4,
			wants: []string{"duplicate//warn"}, source: "198.51.100.2", worksYet: true,
		},
		{
			name:    "nothing wrong",
			uplinks: nil,
			examine: []string{"wan1", "wan2", "wan3"}, family: machine.IPv6,
			source: "2001:db8:3::2", worksYet: true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			lab := netlab.New(t, netlab.Config{Uplinks: c.uplinks})
			t.Cleanup(func() { routing.ClearPolicies(t) })
			server := lab.EchoPeer(t, netip.AddrPortFrom(lab.Server4, 0))
			if c.family == machine.IPv6 {
				server = lab.EchoPeer(t, netip.AddrPortFrom(lab.Server6, 0))
			}
			if c.breaks != nil {
				c.breaks(t, lab)
			}
			broken := c.examine[len(c.examine)-1]
			if !c.worksYet {
				if source, err := routing.Dial(broken, server, 200*time.Millisecond); err == nil {
					t.Fatalf("the set-up is not broken: connected from %v", source)
				}
			}
			report := routing.Examine(t, doctor.Options{}, c.examine...)
			found := report.Lines[len(report.Lines)-1]
			if got := notPassed(found); strings.Join(got, " ") != strings.Join(c.wants, " ") {
				t.Fatalf("found %v, not %v:\n%s", got, c.wants, describe(found))
			}
			if report.Usable != c.worksYet {
				t.Errorf("usable: %v", report.Usable)
			}
			commands := fixes(found)
			if c.hopeless {
				if len(commands) > 0 {
					t.Errorf("there is no remedy, and yet: %v", commands)
				}
				return
			}
			routing.Run(t, commands...)
			if c.then != "" {
				routing.Run(t, c.then)
			}
			source, err := routing.DialUntil(broken, server)
			if err != nil {
				t.Fatalf("not mended by %q: %v", commands, err)
			}
			if source.String() != c.source {
				t.Errorf("the server saw %v, not %v", source, c.source)
			}
			if after := routing.Examine(t, doctor.Options{}, c.examine...); !after.Usable {
				t.Errorf("still not usable:\n%s", describe(after.Lines[len(after.Lines)-1]))
			}
			t.Logf("%v, mended with %q", c.wants, commands)
		})
	}
}

func notPassed(l doctor.Line) []string {
	var list []string
	for _, f := range l.Findings {
		if f.Status != doctor.Pass {
			list = append(list, fmt.Sprintf("%s/%s/%s", f.Check, f.Family, f.Status))
		}
	}
	return list
}

func fixes(l doctor.Line) []string {
	var commands []string
	for _, f := range l.Findings {
		if f.Status == doctor.Fail {
			commands = append(commands, f.Commands...)
		}
	}
	return commands
}

func describe(l doctor.Line) string {
	var text strings.Builder
	for _, f := range l.Findings {
		fmt.Fprintf(&text, "%s %s %s: %s %q\n", f.Status, f.Check, f.Family, f.Text, f.Commands)
	}
	return text.String()
}

// askQuickly makes the kernel give neighbours up in 150 ms in place of 3 s.
func askQuickly(t *testing.T, device string) {
	t.Helper()
	routing.Run(t, "sysctl -qw net/ipv4/neigh/"+device+"/retrans_time_ms=50")
}

// secondLine adds lan2, an interface with an address on wan1's network.
func secondLine(t *testing.T, rpFilter int) {
	t.Helper()
	routing.Run(t, "ip link add lan2 link wan1 type macvlan mode bridge", "ip link set lan2 up")
	t.Cleanup(func() {
		routing.Run(t, "ip link del lan2", "sysctl -qw net/ipv4/conf/all/arp_ignore=0 net/ipv4/conf/all/arp_announce=0")
	})
	routing.Run(t, "sysctl -qw net/ipv4/conf/lan2/rp_filter="+strconv.Itoa(rpFilter), "ip addr add 198.51.100.3/24 dev lan2")
}

// confuse gives the router the link address for lan2 that it gets whenever wan1 is quicker to answer for it.
func confuse(t *testing.T, lab *netlab.Lab) {
	t.Helper()
	wan1, err := net.InterfaceByName("wan1")
	if err != nil {
		t.Fatal(err)
	}
	err = lab.ISP(0).Do(func() error {
		line, err := net.InterfaceByName("line")
		if err != nil {
			return err
		}
		return netlink.NeighSet(&netlink.Neigh{
			LinkIndex: line.Index, IP: net.IPv4(198, 51, 100, 3), HardwareAddr: wan1.HardwareAddr, State: netlink.NUD_REACHABLE,
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// startVPN makes a tunnel that takes traffic and loses it.
func startVPN(t *testing.T, networks ...string) {
	t.Helper()
	netlab.Tunnel(t, "vpn0")
	routing.Run(t, "ip link set vpn0 up", "ip addr add 192.0.2.77/32 dev vpn0")
	for _, n := range networks {
		routing.Run(t, "ip route add "+n+" dev vpn0")
	}
}

func output(t *testing.T, command string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", command).Output()
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return string(out)
}

// reaches fails unless the server sees the source.
func reaches(t *testing.T, name string, server netip.AddrPort, source string) {
	t.Helper()
	got, err := routing.DialUntil(name, server)
	if err != nil || got.String() != source {
		t.Errorf("by %s the server saw %v, %v; not %s", name, got, err, source)
	}
}
