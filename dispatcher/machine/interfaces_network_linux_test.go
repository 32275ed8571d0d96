package machine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"dispatch/testdata/netlab"
)

// inNewNamespace runs do on a thread of its own in an empty network namespace that ends with it.
func inNewNamespace(t testing.TB, do func(n *testNetwork)) {
	t.Helper()
	netlab.Require(t)
	n := &testNetwork{t: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the thread ends with the goroutine, so no other goroutine gets into the namespace.
		runtime.LockOSThread()
		if n.must(unix.Unshare(unix.CLONE_NEWNET)) {
			// No addresses but those of the test, and those at once.
			n.sysctl("net/ipv6/conf/default/addr_gen_mode", "1")
			n.sysctl("net/ipv6/conf/default/accept_dad", "0")
			do(n)
		}
	}()
	<-done
	if err := errors.Join(n.failed...); err != nil {
		t.Fatal(err)
	}
}

// testNetwork builds what a test describes in the namespace of the calling thread.
type testNetwork struct {
	t      testing.TB
	failed []error
	// searchDuplicates leaves new IPv6 addresses tentative at first.
	searchDuplicates bool
}

// must notes an error and where it came up; the test goes on, and fails in the end.
func (n *testNetwork) must(err error) bool {
	if err == nil {
		return true
	}
	where := ""
	for skip := 1; skip < 6; skip++ {
		if _, file, line, ok := runtime.Caller(skip); ok && strings.HasSuffix(file, "_test.go") {
			where += fmt.Sprintf("%s:%d: ", filepath.Base(file), line)
		}
	}
	n.failed = append(n.failed, fmt.Errorf("%s%w", where, err))
	return false
}

func (n *testNetwork) sysctl(name, value string) {
	n.must(os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0o644))
}

func linkAttrs(name string) netlink.LinkAttrs {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	return attrs
}

// link adds a link, sets it up and gives it addresses.
func (n *testNetwork) link(l netlink.Link, addrs ...string) {
	if !n.must(netlink.LinkAdd(l)) {
		return
	}
	n.up(l.Attrs().Name)
	for _, a := range addrs {
		n.address(l.Attrs().Name, a, netlink.Addr{})
	}
}

func (n *testNetwork) up(name string) {
	if l, err := netlink.LinkByName(name); n.must(err) {
		n.must(netlink.LinkSetUp(l))
	}
}

// line adds a line with a carrier: a veth whose other end, "far-" and its name, is up too.
func (n *testNetwork) line(name string, addrs ...string) {
	n.link(&netlink.Veth{LinkAttrs: linkAttrs(name), PeerName: "far-" + name}, addrs...)
	n.up("far-" + name)
}

func (n *testNetwork) index(name string) int {
	l, err := netlink.LinkByName(name)
	if !n.must(err) {
		return 0
	}
	return l.Attrs().Index
}

func (n *testNetwork) prefix(s string) *net.IPNet {
	p, err := netlink.ParseIPNet(s)
	n.must(err)
	return p
}

func (n *testNetwork) address(name, prefix string, a netlink.Addr) {
	a.IPNet = n.prefix(prefix)
	if a.Flags == 0 && familyOfNet(a.IPNet) == netlink.FAMILY_V6 && !n.searchDuplicates {
		a.Flags = unix.IFA_F_NODAD // even where the search is switched off, it takes a moment
	}
	if l, err := netlink.LinkByName(name); n.must(err) {
		n.must(netlink.AddrAdd(l, &a))
	}
}

// until waits for what the kernel does in its own time.
func (n *testNetwork) until(what string, holds func() bool) {
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.must(fmt.Errorf("waited 20 s in vain until %s", what))
			return
		}
	}
}

// anyAddressIs tells whether any IPv6 address has the flag.
func (n *testNetwork) anyAddressIs(flag int) bool {
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_V6)
	n.must(err)
	return slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.Flags&flag != 0 })
}

// route adds a route; device and via may be empty.
func (n *testNetwork) route(dst, device, via string, r netlink.Route) {
	r.Dst = n.prefix(dst)
	r.Family = familyOfNet(r.Dst)
	if device != "" {
		r.LinkIndex = n.index(device)
	}
	if via != "" {
		r.Gw = netip.MustParseAddr(via).AsSlice()
	}
	if err := netlink.RouteAdd(&r); err != nil {
		n.must(fmt.Errorf("add route %s by %q via %q: %w", dst, device, via, err))
	}
}

// multipath adds a route with one hop for each of wan0, wan1, ...
func (n *testNetwork) multipath(dst string, metric int, routers ...string) {
	var hops []*netlink.NexthopInfo
	for at, router := range routers {
		hops = append(hops, &netlink.NexthopInfo{
			LinkIndex: n.index(fmt.Sprintf("wan%d", at)), Gw: netip.MustParseAddr(router).AsSlice(),
		})
	}
	n.route(dst, "", "", netlink.Route{MultiPath: hops, Priority: metric})
}

// rule adds a rule that leads to the table; from may be empty, and of r only mark, inversion and device are used.
func (n *testNetwork) rule(from string, table int, r netlink.Rule) {
	rule := netlink.NewRule() // whose numbers are -1 where they are not to be sent
	rule.Table, rule.Priority, rule.Family = table, 1000, netlink.FAMILY_V4
	rule.Mark, rule.Invert, rule.OifName = r.Mark, r.Invert, r.OifName
	if from != "" {
		rule.Src = n.prefix(from)
		rule.Family = familyOfNet(rule.Src)
	}
	n.must(netlink.RuleAdd(rule))
}

func familyOfNet(p *net.IPNet) int {
	if p.IP.To4() != nil {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// nexthop and routeByNexthop send messages of their own: the library has no nexthop objects.
func (n *testNetwork) nexthop(id uint32, device, via string) {
	req := nl.NewNetlinkRequest(unix.RTM_NEWNEXTHOP, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	req.AddRawData([]byte{unix.AF_INET, 0, 0, 0, 0, 0, 0, 0}) // struct nhmsg, but its attributes may not follow it
	req.RawData = append(req.RawData, nl.NewRtAttr(unix.NHA_ID, nl.Uint32Attr(id)).Serialize()...)
	req.RawData = append(req.RawData, nl.NewRtAttr(unix.NHA_OIF, nl.Uint32Attr(uint32(n.index(device)))).Serialize()...)
	req.RawData = append(req.RawData, nl.NewRtAttr(unix.NHA_GATEWAY, netip.MustParseAddr(via).AsSlice()).Serialize()...)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	n.must(err)
}

func (n *testNetwork) routeByNexthop(id uint32) {
	const rtaNexthopID = 30
	req := nl.NewNetlinkRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	req.AddData(&nl.RtMsg{RtMsg: unix.RtMsg{
		Family: unix.AF_INET, Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_STATIC, Type: unix.RTN_UNICAST,
	}})
	req.AddData(nl.NewRtAttr(rtaNexthopID, nl.Uint32Attr(id)))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	n.must(err)
}

// interfaces is what is tested.
func (n *testNetwork) interfaces() map[string]Interface {
	list, err := Interfaces()
	n.must(err)
	byName := make(map[string]Interface)
	for at, i := range list {
		if i.Index <= 0 || at > 0 && list[at-1].Index >= i.Index {
			n.t.Errorf("not in the order of the indices: %+v", list)
		}
		byName[i.Name] = i
	}
	return byName
}
