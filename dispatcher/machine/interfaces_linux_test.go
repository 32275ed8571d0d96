package machine

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestInterfacesDefaultRoutes(t *testing.T) {
	for _, c := range []struct {
		name string
		// build starts with two lines that are up and have addresses and no default route.
		build func(n *testNetwork)
		want  []string // device family router metric
	}{
		{"none", func(*testNetwork) {}, nil},
		{"one a line, by metric", func(n *testNetwork) {
			n.route("0.0.0.0/0", "wan0", "10.0.0.1", netlink.Route{Priority: 100})
			n.route("0.0.0.0/0", "wan1", "10.0.1.1", netlink.Route{Priority: 200})
			n.route("::/0", "wan1", "2001:db8:1::1", netlink.Route{Priority: 300})
		}, []string{"wan0 ipv4 10.0.0.1 100", "wan1 ipv4 10.0.1.1 200", "wan1 ipv6 2001:db8:1::1 300"}},
		{"the better of two by one line", func(n *testNetwork) {
			n.route("0.0.0.0/0", "wan0", "10.0.0.9", netlink.Route{Priority: 200})
			n.route("0.0.0.0/0", "wan0", "10.0.0.1", netlink.Route{Priority: 100})
		}, []string{"wan0 ipv4 10.0.0.1 100"}},
		{"both families by one line", func(n *testNetwork) {
			n.route("::/0", "wan0", "fe80::1", netlink.Route{Priority: 1024})
			n.route("0.0.0.0/0", "wan0", "10.0.0.1", netlink.Route{})
		}, []string{"wan0 ipv4 10.0.0.1 0", "wan0 ipv6 fe80::1 1024"}},
		{"without a router", func(n *testNetwork) {
			n.route("0.0.0.0/0", "wan0", "", netlink.Route{Scope: netlink.SCOPE_LINK})
			n.route("::/0", "wan0", "", netlink.Route{Priority: 5})
		}, []string{"wan0 ipv4 - 0", "wan0 ipv6 - 5"}},
		{"a router that is not on the link", func(n *testNetwork) {
			n.route("0.0.0.0/0", "wan0", "192.0.2.1", netlink.Route{Flags: int(netlink.FLAG_ONLINK)})
		}, []string{"wan0 ipv4 192.0.2.1 0"}},
		{"IPv4 through an IPv6 router", func(n *testNetwork) {
			n.route("0.0.0.0/0", "wan0", "", netlink.Route{Via: &netlink.Via{
				AddrFamily: unix.AF_INET6, Addr: netip.MustParseAddr("2001:db8::1").AsSlice(),
			}})
		}, []string{"wan0 ipv4 2001:db8::1 0"}},
		{"multipath", func(n *testNetwork) {
			n.multipath("0.0.0.0/0", 7, "10.0.0.1", "10.0.1.1")
			n.multipath("::/0", 8, "2001:db8::1", "2001:db8:1::1")
		}, []string{
			"wan0 ipv4 10.0.0.1 7", "wan0 ipv6 2001:db8::1 8", "wan1 ipv4 10.0.1.1 7", "wan1 ipv6 2001:db8:1::1 8",
		}},
		{"nexthop object", func(n *testNetwork) {
			n.nexthop(11, "wan0", "10.0.0.1")
			n.routeByNexthop(11)
		}, []string{"wan0 ipv4 10.0.0.1 0"}},
		{"nexthop object, of which only the number is told", func(n *testNetwork) {
			n.sysctl("net/ipv4/nexthop_compat_mode", "0")
			n.nexthop(11, "wan0", "10.0.0.1")
			n.routeByNexthop(11)
		}, []string{"wan0 ipv4 - 0"}},
		{"discarding routes", func(n *testNetwork) {
			for _, dst := range []string{"0.0.0.0/0", "::/0"} {
				n.route(dst, "", "", netlink.Route{Type: unix.RTN_BLACKHOLE, Priority: 10})
				n.route(dst, "", "", netlink.Route{Type: unix.RTN_UNREACHABLE, Priority: 11})
				n.route(dst, "", "", netlink.Route{Type: unix.RTN_PROHIBIT, Priority: 12})
			}
		}, nil},
		{"a discarding route that comes last", func(n *testNetwork) {
			for _, dst := range []string{"0.0.0.0/0", "::/0"} {
				n.route(dst, "", "", netlink.Route{Type: unix.RTN_UNREACHABLE, Priority: 4278198272})
			}
			n.route("0.0.0.0/0", "wan1", "10.0.1.1", netlink.Route{Priority: 100})
			n.route("::/0", "wan1", "2001:db8:1::1", netlink.Route{Priority: 100})
		}, []string{"wan1 ipv4 10.0.1.1 100", "wan1 ipv6 2001:db8:1::1 100"}},
		{"unassigned space discarded", func(n *testNetwork) {
			for _, dst := range []string{"0.0.0.0/8", "10.0.0.0/8", "240.0.0.0/4", "2000::/16", "3fff::/16"} {
				n.route(dst, "", "", netlink.Route{Type: unix.RTN_BLACKHOLE})
			}
			n.route("0.0.0.0/0", "wan1", "10.0.1.1", netlink.Route{})
			n.route("::/0", "wan1", "2001:db8:1::1", netlink.Route{Priority: 100})
		}, []string{"wan1 ipv4 10.0.1.1 0", "wan1 ipv6 2001:db8:1::1 100"}},
		{"unassigned space routed", func(n *testNetwork) {
			for _, dst := range []string{"0.0.0.0/8", "240.0.0.0/4"} {
				n.route(dst, "wan0", "10.0.0.9", netlink.Route{})
				n.route(dst, "wan1", "10.0.1.9", netlink.Route{Priority: 1})
			}
			for _, dst := range []string{"2000::/16", "3fff::/16"} {
				n.route(dst, "wan0", "2001:db8::9", netlink.Route{Priority: 1})
				n.route(dst, "wan1", "2001:db8:1::9", netlink.Route{Priority: 2})
			}
			n.route("0.0.0.0/0", "wan0", "10.0.0.1", netlink.Route{})
			n.route("::/0", "wan0", "2001:db8::1", netlink.Route{Priority: 100})
			n.route("0.0.0.0/1", "wan1", "10.0.1.1", netlink.Route{})
			n.route("128.0.0.0/1", "wan1", "10.0.1.1", netlink.Route{})
			n.route("2000::/4", "wan1", "2001:db8:1::1", netlink.Route{Priority: 100})
			n.route("3000::/4", "wan1", "2001:db8:1::1", netlink.Route{Priority: 100})
		}, []string{
			"wan0 ipv4 10.0.0.1 0", "wan0 ipv6 2001:db8::1 100", "wan1 ipv4 10.0.1.1 0", "wan1 ipv6 2001:db8:1::1 100",
		}},
		{"split in halves", func(n *testNetwork) {
			n.route("0.0.0.0/0", "wan0", "10.0.0.1", netlink.Route{Priority: 100})
			n.route("0.0.0.0/1", "wan1", "10.0.1.1", netlink.Route{Priority: 3})
			n.route("128.0.0.0/1", "wan1", "10.0.1.1", netlink.Route{Priority: 4})
			n.route("2000::/4", "wan1", "", netlink.Route{Priority: 5})
			n.route("3000::/4", "wan1", "", netlink.Route{Priority: 5})
			n.route("::/1", "wan0", "", netlink.Route{Priority: 6})
			n.route("8000::/1", "wan0", "", netlink.Route{Priority: 6})
		}, []string{"wan0 ipv4 10.0.0.1 100", "wan0 ipv6 - 6", "wan1 ipv4 10.0.1.1 4", "wan1 ipv6 - 5"}},
		{"one half only, or one by each line", func(n *testNetwork) {
			n.route("0.0.0.0/1", "wan0", "10.0.0.1", netlink.Route{})
			n.route("128.0.0.0/1", "wan1", "10.0.1.1", netlink.Route{})
			n.route("2000::/4", "wan1", "", netlink.Route{})
		}, nil},
		{"large networks that are no halves", func(n *testNetwork) {
			n.route("0.0.0.0/2", "wan0", "10.0.0.1", netlink.Route{})
			n.route("64.0.0.0/2", "wan0", "10.0.0.1", netlink.Route{})
			n.route("128.0.0.0/1", "wan0", "10.0.0.1", netlink.Route{})
		}, nil},
		{"a table by source", func(n *testNetwork) {
			n.route("0.0.0.0/0", "wan0", "10.0.0.1", netlink.Route{})
			n.route("0.0.0.0/0", "wan1", "10.0.1.1", netlink.Route{Table: 101})
			n.rule("10.0.1.2/32", 101, netlink.Rule{})
			n.route("::/0", "wan1", "2001:db8:1::1", netlink.Route{Table: 101, Priority: 9})
			n.rule("2001:db8:1::2/128", 101, netlink.Rule{})
		}, []string{"wan0 ipv4 10.0.0.1 0", "wan1 ipv4 10.0.1.1 0", "wan1 ipv6 2001:db8:1::1 9"}},
		{"a table by source, for one of two addresses", func(n *testNetwork) {
			n.address("wan0", "10.0.9.2/24", netlink.Addr{})
			n.route("0.0.0.0/0", "wan0", "10.0.0.1", netlink.Route{Priority: 5})
			n.route("0.0.0.0/0", "wan0", "10.0.9.1", netlink.Route{Table: 101, Priority: 6})
			n.rule("10.0.9.0/24", 101, netlink.Rule{})
		}, []string{"wan0 ipv4 10.0.0.1 5", "wan0 ipv4 10.0.9.1 6"}},
		{"a table by source that leaves by another line", func(n *testNetwork) {
			n.route("::/0", "wan0", "2001:db8::1", netlink.Route{Table: 101, Priority: 9})
			n.rule("2001:db8:1::2/128", 101, netlink.Rule{})
			n.route("0.0.0.0/0", "wan0", "10.0.0.1", netlink.Route{Table: 101})
			n.rule("10.0.1.2/32", 101, netlink.Rule{})
		}, nil},
		{"a table by a source that is not ours", func(n *testNetwork) {
			n.route("0.0.0.0/0", "wan1", "10.0.1.1", netlink.Route{Table: 101})
			n.rule("10.77.0.0/16", 101, netlink.Rule{})
		}, nil},
		{"a table by device", func(n *testNetwork) {
			n.route("0.0.0.0/0", "wan1", "10.0.1.1", netlink.Route{Table: 101})
			n.rule("", 101, netlink.Rule{OifName: "wan1"})
		}, []string{"wan1 ipv4 10.0.1.1 0"}},
		{"tables no rule leads to, or only one for marked packets", func(n *testNetwork) {
			n.route("0.0.0.0/0", "wan0", "10.0.0.1", netlink.Route{Table: 101})
			n.route("0.0.0.0/0", "wan1", "10.0.1.1", netlink.Route{Table: 102})
			n.rule("", 102, netlink.Rule{Mark: 7})
		}, nil},
		{"a table for packets without a mark", func(n *testNetwork) { // as wg-quick makes one
			n.route("0.0.0.0/0", "wan0", "10.0.0.1", netlink.Route{Priority: 100})
			n.route("0.0.0.0/0", "wan1", "", netlink.Route{Table: 51820, Scope: netlink.SCOPE_LINK})
			n.rule("", 51820, netlink.Rule{Mark: 51820, Invert: true})
		}, []string{"wan0 ipv4 10.0.0.1 100", "wan1 ipv4 - 0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inNewNamespace(t, func(n *testNetwork) {
				n.line("wan0", "10.0.0.2/24", "2001:db8::2/64")
				n.line("wan1", "10.0.1.2/24", "2001:db8:1::2/64")
				c.build(n)
				var got []string
				for name, i := range n.interfaces() {
					for _, r := range i.DefaultRoutes {
						router := "-"
						if r.Router.IsValid() {
							router = r.Router.String()
						}
						got = append(got, fmt.Sprintf("%s %s %s %d", name, r.Family, router, r.Metric))
					}
				}
				slices.Sort(got)
				if !slices.Equal(got, c.want) {
					t.Errorf("default routes\n got %q\nwant %q", got, c.want)
				}
			})
		})
	}
}

func describeAddress(a Address) string {
	s := a.Prefix.String()
	if a.Tentative {
		s += " tentative"
	}
	if a.Deprecated {
		s += " deprecated"
	}
	if a.Temporary {
		s += " temporary"
	}
	return s
}

func TestInterfacesAddresses(t *testing.T) {
	inNewNamespace(t, func(n *testNetwork) {
		n.line("wan0", "2001:db8::2/64", "10.0.0.2/24", "10.0.0.3/24", "fe80::2/64")
		n.address("wan0", "10.0.5.2/24", netlink.Addr{ValidLft: 1000, PreferedLft: 900})
		n.address("wan0", "10.0.6.2/24", netlink.Addr{ValidLft: 1000})
		n.address("wan0", "fd00::2/64", netlink.Addr{ValidLft: 1000, PreferedLft: 900})
		n.address("wan0", "2001:db8::3/64", netlink.Addr{ValidLft: 1000})
		n.address("wan0", "10.8.0.6/32", netlink.Addr{Peer: n.prefix("10.8.0.5/32")})
		n.address("wan0", "10.9.0.6/32", netlink.Addr{Peer: n.prefix("10.10.0.0/16")})
		n.address("wan0", "10.11.0.6/32", netlink.Addr{Peer: n.prefix("10.11.0.1/24")})
		n.address("wan0", "2001:db8:8::6/128", netlink.Addr{Peer: n.prefix("2001:db8:8::5/128")})
		// The kernel makes a temporary address of its own beside this one.
		n.sysctl("net/ipv6/conf/wan0/use_tempaddr", "2")
		n.address("wan0", "2001:db8:7::1/64", netlink.Addr{
			Flags: unix.IFA_F_MANAGETEMPADDR, ValidLft: 86400, PreferedLft: 80000,
		})

		n.until("no address is tentative", func() bool { return !n.anyAddressIs(unix.IFA_F_TENTATIVE) })

		var v4, v6 []string
		for _, a := range n.interfaces()["wan0"].Addresses {
			switch p := a.Prefix; {
			case p.Addr().Is4() && len(v6) > 0:
				t.Errorf("%v comes after IPv6 addresses", p)
			case p.Addr().Is4():
				v4 = append(v4, describeAddress(a))
			case a.Temporary && netip.MustParsePrefix("2001:db8:7::/64").Contains(p.Addr()):
				v6 = append(v6, strings.Replace(describeAddress(a), p.Addr().String(), "RANDOM", 1))
			default:
				v6 = append(v6, describeAddress(a))
			}
		}
		slices.Sort(v6) // the kernel's order is by scope and age
		want4 := []string{
			"10.0.0.2/24", "10.0.5.2/24", "10.0.6.2/24 deprecated",
			"10.8.0.6/32", "10.9.0.6/32", "10.11.0.6/24", "10.0.0.3/24",
		}
		want6 := []string{
			"2001:db8:7::1/64", "2001:db8:8::6/128", "2001:db8::2/64", "2001:db8::3/64 deprecated",
			"RANDOM/64 temporary", "fd00::2/64", "fe80::2/64",
		}
		if !slices.Equal(v4, want4) || !slices.Equal(v6, want6) {
			t.Errorf("addresses\n got %q\n     %q\nwant %q\n     %q", v4, v6, want4, want6)
		}
	})
}

// TestInterfacesDuplicateAddress lets the kernel look for a duplicate, and find one.
func TestInterfacesDuplicateAddress(t *testing.T) {
	inNewNamespace(t, func(n *testNetwork) {
		n.searchDuplicates = true
		n.sysctl("net/ipv6/conf/default/accept_dad", "1")
		n.link(&netlink.Veth{LinkAttrs: linkAttrs("v0"), PeerName: "v1"})
		n.up("v1")
		n.address("v1", "2001:db8::1/64", netlink.Addr{Flags: unix.IFA_F_NODAD})
		n.sysctl("net/ipv6/conf/v0/dad_transmits", "200") // seconds each: the search outlasts the test
		n.address("v0", "2001:db8::7/64", netlink.Addr{})
		n.sysctl("net/ipv6/conf/v0/dad_transmits", "1")
		n.address("v0", "2001:db8::1/64", netlink.Addr{})

		tentative := func(addr string) bool {
			for _, a := range n.interfaces()["v0"].Addresses {
				if a.Prefix.Addr().String() == addr {
					return a.Tentative
				}
			}
			return false
		}
		if !tentative("2001:db8::7") {
			t.Error("an address whose search for duplicates goes on is not tentative")
		}
		n.until("the kernel has found the duplicate", func() bool { return n.anyAddressIs(unix.IFA_F_DADFAILED) })
		if !tentative("2001:db8::1") {
			t.Error("an address that another host has is not tentative")
		}
	})
}

func TestInterfacesKindAndState(t *testing.T) {
	inNewNamespace(t, func(n *testNetwork) {
		n.link(&netlink.Veth{LinkAttrs: linkAttrs("veth0"), PeerName: "veth1"})
		n.link(&netlink.Bridge{LinkAttrs: linkAttrs("br0")})
		port := linkAttrs("veth2") // without a port, a bridge has a carrier
		port.MasterIndex = n.index("br0")
		n.link(&netlink.Veth{LinkAttrs: port, PeerName: "veth3"})
		tuns := mayMakeTUN(t)
		if tuns {
			n.link(&netlink.Tuntap{LinkAttrs: linkAttrs("tun0"), Mode: netlink.TUNTAP_MODE_TUN})
			n.link(&netlink.Tuntap{LinkAttrs: linkAttrs("tap0"), Mode: netlink.TUNTAP_MODE_TAP})
			port := linkAttrs("tap1")
			port.MasterIndex = n.index("br0")
			n.link(&netlink.Tuntap{LinkAttrs: port, Mode: netlink.TUNTAP_MODE_TAP})
		}
		type state struct {
			kind Kind
			up   bool
		}
		expect := func(want map[string]state) {
			got := n.interfaces()
			if len(got) != len(want) {
				t.Errorf("got %d interfaces, want %d", len(got), len(want))
			}
			for name, w := range want {
				i := got[name]
				if i.Kind != w.kind || i.Up != w.up || i.Index != n.index(name) {
					t.Errorf("%s: %+v, want kind %q and up %v", name, i, w.kind, w.up)
				}
			}
		}
		want := map[string]state{
			"lo":    {KindLoopback, false}, // down in a new namespace
			"veth0": {KindVirtual, false},  // the other end is down
			"veth1": {KindVirtual, false},
			"veth2": {KindVirtual, false},
			"veth3": {KindVirtual, false},
			"br0":   {KindVirtual, false}, // no port has a carrier
		}
		if tuns {
			want["tun0"] = state{KindTunnel, false} // no program has it open
			want["tap0"] = state{KindTunnel, false}
			want["tap1"] = state{KindVirtual, false}
		}
		expect(want)
		n.up("veth1")
		n.up("lo")
		for _, name := range []string{"lo", "veth0", "veth1"} {
			want[name] = state{want[name].kind, true}
		}
		for _, name := range []string{"veth0", "veth1"} {
			n.until("the kernel has seen the carrier of "+name, func() bool {
				l, err := netlink.LinkByName(name)
				return n.must(err) && l.Attrs().OperState == netlink.OperUp
			})
		}
		expect(want)
	})
}

// mayMakeTUN tells whether there is the device, and may be used: a container mostly has none, and its user's namespace
// gives no right to it. It says so where it is not.
func mayMakeTUN(t *testing.T) bool {
	t.Helper()
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		fmt.Fprintf(os.Stderr, "NOT RUN: the part of %s that is about TUN interfaces: %v\n", t.Name(), err)
		return false
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	return true
}

func TestSoftwareKind(t *testing.T) {
	for software, want := range map[string]Kind{
		"bond": KindEthernet, "team": KindEthernet, "vlan": KindEthernet, "macvlan": KindEthernet, "dsa": KindEthernet,
		"wireguard": KindTunnel, "gre": KindTunnel, "ipip": KindTunnel, "sit": KindTunnel, "vti": KindTunnel, "xfrm": KindTunnel,
		"ppp": KindPPP, "wwan": KindMobile, "virt_wifi": KindWiFi,
		"dummy": KindVirtual, "ifb": KindVirtual, "vxlan": KindVirtual, "vrf": KindVirtual, "not yet invented": KindVirtual,
	} {
		l := link{index: 3, name: "x0", hardware: unix.ARPHRD_ETHER, software: software}
		if got := l.interfaceKind(t.TempDir()); got != want {
			t.Errorf("%s: got %q, want %q", software, got, want)
		}
	}
}

// TestHardwareKind is about what no namespace can have: real cards, as sysfs describes them.
func TestHardwareKind(t *testing.T) {
	for _, c := range []struct {
		name     string
		hardware uint16
		uevent   string // empty: no sysfs
		folder   string
		want     Kind
	}{
		{"ethernet", unix.ARPHRD_ETHER, "INTERFACE=x0\nIFINDEX=3\n", "", KindEthernet},
		{"wifi", unix.ARPHRD_ETHER, "DEVTYPE=wlan\nINTERFACE=x0\nIFINDEX=3\n", "", KindWiFi},
		{"wifi of another namespace", unix.ARPHRD_ETHER, "DEVTYPE=wlan\nINTERFACE=x0\nIFINDEX=30\n", "wireless", KindEthernet},
		{"old wifi driver", unix.ARPHRD_ETHER, "INTERFACE=x0\nIFINDEX=3\n", "wireless", KindWiFi},
		{"monitor", unix.ARPHRD_IEEE80211_RADIOTAP, "", "", KindWiFi},
		{"modem with ethernet frames", unix.ARPHRD_ETHER, "DEVTYPE=wwan\nINTERFACE=x0\nIFINDEX=3\n", "", KindMobile},
		{"modem without frames", unix.ARPHRD_NONE, "DEVTYPE=wwan\nINTERFACE=x0\nIFINDEX=3\n", "", KindMobile},
		{"modem without frames or sysfs", unix.ARPHRD_RAWIP, "", "", KindMobile},
		{"no sysfs", unix.ARPHRD_ETHER, "", "", KindEthernet},
		{"old ppp", unix.ARPHRD_PPP, "", "", KindPPP},
		{"tunnel", unix.ARPHRD_NONE, "", "", KindTunnel},
		{"infiniband", unix.ARPHRD_INFINIBAND, "", "", KindUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			sysfs := t.TempDir()
			if c.uevent != "" {
				dir := filepath.Join(sysfs, "x0")
				if err := os.MkdirAll(filepath.Join(dir, c.folder), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "uevent"), []byte(c.uevent), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			l := link{index: 3, name: "x0", hardware: c.hardware}
			if got := l.interfaceKind(sysfs); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func BenchmarkInterfaces(b *testing.B) {
	for _, unrelated := range []int{0, 2000} {
		b.Run(fmt.Sprintf("lines=2/routes=%d", unrelated), func(b *testing.B) {
			inNewNamespace(b, func(n *testNetwork) {
				n.up("lo")
				n.line("wan0", "10.0.0.2/24", "2001:db8::2/64")
				n.line("wan1", "10.0.1.2/24", "2001:db8:1::2/64")
				n.route("0.0.0.0/0", "wan0", "10.0.0.1", netlink.Route{Priority: 100})
				n.route("0.0.0.0/0", "wan1", "10.0.1.1", netlink.Route{Priority: 200})
				n.route("::/0", "wan1", "2001:db8:1::1", netlink.Route{Priority: 200})
				for i := range unrelated / 2 {
					n.route(fmt.Sprintf("20.%d.%d.0/24", i/256, i%256), "wan0", "10.0.0.1", netlink.Route{})
					n.route(fmt.Sprintf("2001:db8:%x::/48", 0x1000+i), "wan1", "2001:db8:1::1", netlink.Route{})
				}
				b.ReportAllocs()
				for b.Loop() {
					if _, err := Interfaces(); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
