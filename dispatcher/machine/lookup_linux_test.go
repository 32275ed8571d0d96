package machine

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestLookup(t *testing.T) {
	inNewNamespace(t, func(n *testNetwork) {
		n.up("lo")
		n.line("wan0", "10.0.0.2/24", "2001:db8::2/64")
		n.line("wan1", "10.0.1.2/24", "10.0.1.3/24", "2001:db8:1::2/64")
		n.line("wan2", "10.0.2.2/24", "10.0.2.3/24")
		n.route("0.0.0.0/0", "wan0", "10.0.0.1", netlink.Route{Priority: 100})
		n.route("0.0.0.0/0", "wan1", "10.0.1.1", netlink.Route{Priority: 200})
		n.route("::/0", "wan1", "2001:db8:1::1", netlink.Route{Priority: 300})
		n.route("::/0", "wan0", "2001:db8::1", netlink.Route{Table: 7})
		n.route("192.0.2.0/24", "wan1", "10.0.1.9", netlink.Route{Src: []byte{10, 0, 1, 3}})
		n.route("198.51.100.0/24", "", "", netlink.Route{Type: unix.RTN_UNREACHABLE})
		n.multipath("203.0.113.0/24", 0, "10.0.0.7", "10.0.1.7")
		n.rule("2001:db8::2/128", 7, netlink.Rule{})
		n.route("0.0.0.0/0", "wan2", "10.0.2.1", netlink.Route{Table: 70000})
		n.rule("10.0.2.3/32", 70000, netlink.Rule{})
		for _, c := range []struct{ dst, device, source, want string }{
			{"8.8.8.8", "", "", "wan0 from 10.0.0.2 by 10.0.0.1 to 0.0.0.0/0 metric 100 table 254"},
			{"::ffff:8.8.8.8", "", "", "wan0 from 10.0.0.2 by 10.0.0.1 to 0.0.0.0/0 metric 100 table 254"},
			{"8.8.8.8", "wan1", "", "wan1 from 10.0.1.2 by 10.0.1.1 to 0.0.0.0/0 metric 200 table 254"},
			{"8.8.8.8", "wan1", "10.0.1.3", "wan1 from 10.0.1.3 by 10.0.1.1 to 0.0.0.0/0 metric 200 table 254"},
			{"8.8.8.8", "", "10.0.1.2", "wan0 from 10.0.1.2 by 10.0.0.1 to 0.0.0.0/0 metric 100 table 254"},
			{"8.8.8.8", "wan2", "", "no route"}, // though the kernel would take it for a neighbour
			{"8.8.8.8", "wan2", "10.0.2.2", "no route"},
			{"8.8.8.8", "wan2", "10.0.2.3", "wan2 from 10.0.2.3 by 10.0.2.1 to 0.0.0.0/0 metric 0 table 70000"},
			{"10.0.2.9", "", "", "wan2 from 10.0.2.2 by invalid IP to 10.0.2.0/24 metric 0 table 254"},
			{"10.0.2.9", "wan2", "", "wan2 from 10.0.2.2 by invalid IP to 10.0.2.0/24 metric 0 table 254"},
			{"10.0.2.2", "", "", "lo from 10.0.2.2 by invalid IP to 10.0.2.2/32 metric 0 table 255"},
			{"192.0.2.1", "", "", "wan1 from 10.0.1.3 by 10.0.1.9 to 192.0.2.0/24 metric 0 table 254"},
			{"198.51.100.1", "", "", "no route"},
			{"203.0.113.1", "wan1", "", "wan1 from 10.0.1.2 by 10.0.1.7 to 203.0.113.0/24 metric 0 table 254"},
			{"2001:4860::8", "", "", "wan1 from 2001:db8:1::2 by 2001:db8:1::1 to ::/0 metric 300 table 254"},
			{"2001:4860::8", "wan0", "2001:db8::2", "wan0 from 2001:db8::2 by 2001:db8::1 to ::/0 metric 1024 table 7"},
			{"2001:4860::8", "", "2001:db8::2", "wan0 from 2001:db8::2 by 2001:db8::1 to ::/0 metric 1024 table 7"},
			{"2001:4860::8", "wan0", "", "no route"}, // the rule is for the source
			{"2001:4860::8", "wan1", "2001:db8:1::2", "wan1 from 2001:db8:1::2 by 2001:db8:1::1 to ::/0 metric 300 table 254"},
			{"2001:4860::8", "wan2", "", "no route"},
		} {
			device, source := 0, netip.Addr{}
			if c.device != "" {
				device = n.index(c.device)
			}
			if c.source != "" {
				source = netip.MustParseAddr(c.source)
			}
			p, err := Lookup(netip.MustParseAddr(c.dst), device, source)
			got := "no route"
			if err == nil {
				link, err := netlink.LinkByIndex(p.Device)
				if !n.must(err) {
					continue
				}
				got = describePath(link.Attrs().Name, p)
			} else if !errors.Is(err, ErrNoRoute) {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("%s by %q from %q: %s, want %s (%v)", c.dst, c.device, c.source, got, c.want, err)
			}
		}
		// Of several hops the kernel's choice for an unbound socket is consistent in itself.
		p, err := Lookup(netip.MustParseAddr("203.0.113.1"), 0, netip.Addr{})
		if first := p.Device == n.index("wan0"); n.must(err) && (p.Router.String() != map[bool]string{true: "10.0.0.7", false: "10.0.1.7"}[first] || p.Source.String() != map[bool]string{true: "10.0.0.2", false: "10.0.1.2"}[first]) {
			t.Errorf("several hops: %+v", p)
		}
		_, err = Lookup(netip.MustParseAddr("8.8.8.8"), n.index("wan2"), netip.MustParseAddr("10.0.2.2"))
		if want := "look up the route to 8.8.8.8 from 10.0.2.2 by interface "; err == nil || !strings.HasPrefix(err.Error(), want) || !errors.Is(err, unix.EHOSTUNREACH) {
			t.Errorf("%v", err)
		}
		if _, err := Lookup(netip.MustParseAddr("8.8.8.8"), 0, netip.MustParseAddr("::1")); err == nil || errors.Is(err, ErrNoRoute) {
			t.Errorf("a source of the other family: %v", err)
		}
		if _, err := Lookup(netip.Addr{}, 0, netip.Addr{}); err == nil {
			t.Error("no destination")
		}
	})
}

func describePath(device string, p Path) string {
	return strings.Join([]string{
		device, "from", p.Source.String(), "by", p.Router.String(), "to", p.To.String(), "metric", strconv.Itoa(p.Metric), "table", strconv.Itoa(p.Table),
	}, " ")
}

func TestNeighbours(t *testing.T) {
	inNewNamespace(t, func(n *testNetwork) {
		n.line("wan0", "10.0.0.2/24", "2001:db8::2/64")
		n.line("wan1", "10.0.1.2/24")
		add := func(device, addr string, state, flags int) {
			n.must(netlink.NeighAdd(&netlink.Neigh{
				LinkIndex: n.index(device), IP: netip.MustParseAddr(addr).AsSlice(), State: state, Flags: flags,
				HardwareAddr: []byte{2, 0, 0, 0, 0, 1},
			}))
		}
		add("wan0", "10.0.0.1", unix.NUD_REACHABLE, 0)
		add("wan1", "10.0.1.1", unix.NUD_STALE, 0)
		add("wan0", "2001:db8::1", unix.NUD_PERMANENT, unix.NTF_ROUTER)
		for f, want := range map[Family]Neighbour{
			IPv4: {netip.MustParseAddr("10.0.0.1"), unix.NUD_REACHABLE, false},
			IPv6: {netip.MustParseAddr("2001:db8::1"), unix.NUD_PERMANENT, true},
		} {
			list, err := Neighbours(f, n.index("wan0"))
			if n.must(err) && (!slices.Contains(list, want) || slices.Contains(list, Neighbour{netip.MustParseAddr("10.0.1.1"), unix.NUD_STALE, false})) {
				t.Errorf("%s: %+v, want %+v", f, list, want)
			}
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	inNewNamespace(b, func(n *testNetwork) {
		n.line("wan0", "10.0.0.2/24")
		n.route("0.0.0.0/0", "wan0", "10.0.0.1", netlink.Route{})
		dst := netip.MustParseAddr("8.8.8.8")
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Lookup(dst, 0, netip.Addr{}); err != nil {
				b.Error(err)
			}
		}
	})
}
