package machine

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// FuzzNetlinkAnswer feeds the parsers what no kernel sends. Its seeds are real answers.
func FuzzNetlinkAnswer(f *testing.F) {
	n, err := openNetlink()
	if err != nil {
		f.Fatal(err)
	}
	for _, question := range []struct {
		kind    uint16
		payload int
	}{
		{unix.RTM_GETLINK, unix.SizeofIfInfomsg},
		{unix.RTM_GETADDR, unix.SizeofIfAddrmsg},
		{unix.RTM_GETRULE, unix.SizeofRtMsg},
		{unix.RTM_GETROUTE, unix.SizeofRtMsg},
		{unix.RTM_GETNEIGH, unix.SizeofNdMsg},
	} {
		answer, err := n.dump(question.kind, make([]byte, question.payload))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(slices.Clone(answer))
	}
	if err := n.close(); err != nil {
		f.Fatal(err)
	}
	hops := appendAttribute32(make([]byte, unix.SizeofRtMsg), unix.RTA_MULTIPATH, 8)
	f.Add(append([]byte{byte(len(hops) + 16), 0, 0, 0, unix.RTM_NEWROUTE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, hops...))

	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		for m := range messages(b) {
			total += unix.SizeofNlMsghdr + len(m.body)
			if err := m.errno(); err != nil && err.Error() == "" {
				t.Error("a refusal without a text")
			}
			if l, ok := parseLink(m.body); ok && (l.index <= 0 || l.name == "") {
				t.Errorf("link %+v", l)
			}
			if index, a, ok := parseAddress(m.body); ok && (index <= 0 || !a.Prefix.IsValid()) {
				t.Errorf("address %+v of %d", a, index)
			}
			if _, known, ok := parseNeighbour(m.body); ok && !known.Addr.IsValid() {
				t.Errorf("neighbour %+v", known)
			}
			if r := parseRoute(m.body, 2); r.leaves != leavesElsewhere && r.to.IsValid() && r.to.Bits() > r.to.Addr().BitLen() {
				t.Errorf("route %+v", r)
			}
		}
		if total > len(b) {
			t.Errorf("%d bytes of messages out of %d", total, len(b))
		}
	})
}

// TestParseRouteLeaves: the answers a lookup gives when it did not keep to the device.
func TestParseRouteLeaves(t *testing.T) {
	message := func(kind byte, attributes ...[]byte) []byte {
		b := make([]byte, unix.SizeofRtMsg)
		b[0], b[7] = unix.AF_INET6, kind
		for _, a := range attributes {
			b = append(b, a...)
		}
		return b
	}
	oif := func(device uint32) []byte { return appendAttribute32(nil, unix.RTA_OIF, device) }
	router := netip.MustParseAddr("fe80::1")
	hop := func(device byte) []byte {
		a := appendAttribute(nil, unix.RTA_GATEWAY, router.AsSlice())
		return append([]byte{byte(8 + len(a)), 0, 0, 0, device, 0, 0, 0}, a...)
	}
	for _, c := range []struct {
		name   string
		in     []byte
		want   leaving
		router bool
	}{
		{"device", message(unix.RTN_UNICAST, oif(2)), leavesByDevice, false},
		{"another", message(unix.RTN_UNICAST, oif(3)), leavesElsewhere, false},
		{"not told", message(unix.RTN_UNICAST), leavesUntold, false},
		{"second hop", message(unix.RTN_UNICAST, appendAttribute(nil, unix.RTA_MULTIPATH, append(hop(3), hop(2)...))), leavesByDevice, true},
		{"no hop", message(unix.RTN_UNICAST, appendAttribute(nil, unix.RTA_MULTIPATH, hop(3))), leavesElsewhere, false},
		{"broken hop", message(unix.RTN_UNICAST, appendAttribute(nil, unix.RTA_MULTIPATH, hop(2)[:12])), leavesElsewhere, false},
	} {
		r := parseRoute(c.in, 2)
		if r.leaves != c.want || r.kind != unix.RTN_UNICAST || (r.router == router) != c.router {
			t.Errorf("%s: got %d with router %v, want %d", c.name, r.leaves, r.router, c.want)
		}
	}
}

// TestInterfacesWhileTheyChange: dumps that a change interrupts are asked for again, so a list holds everything that
// was there all the time.
func TestInterfacesWhileTheyChange(t *testing.T) {
	inNewNamespace(t, func(n *testNetwork) {
		n.line("wan0")
		const stable = 500 // so many that the kernel takes several steps to list them
		for i := range stable {
			n.address("wan0", fmt.Sprintf("10.1.%d.%d/32", i/250, i%250+1), netlink.Addr{})
		}
		wan0, err := netlink.LinkByName("wan0")
		n.must(err)
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE) // stays with this namespace, whatever thread uses it
		if !n.must(err) {
			return
		}
		defer h.Close()
		// Addresses of this scope come first, so that all others move each time.
		change := &netlink.Addr{IPNet: n.prefix("10.2.0.1/32"), Scope: unix.RT_SCOPE_LINK}
		start, changed := make(chan struct{}), make(chan error)
		go func() { changed <- addAndRemove(h, wan0, change, start) }()
		for range 60 {
			start <- struct{}{}
			list, err := Interfaces()
			n.must(err)
			found := 0
			for _, i := range list {
				for _, a := range i.Addresses {
					if netip.MustParsePrefix("10.1.0.0/16").Contains(a.Prefix.Addr()) {
						found++
					}
				}
			}
			if found != stable {
				t.Errorf("got %d addresses; %d were there all the time", found, stable)
			}
		}
		close(start)
		n.must(<-changed)
	})
}

// addAndRemove makes a burst of changes at each start, fewer than dumpTries.
func addAndRemove(h *netlink.Handle, l netlink.Link, a *netlink.Addr, start <-chan struct{}) error {
	var failed error
	for range start {
		for range 10 {
			failed = errors.Join(failed, h.AddrAdd(l, a), h.AddrDel(l, a))
		}
	}
	return failed
}
