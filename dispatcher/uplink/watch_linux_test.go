package uplink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"dispatch/dispatcher/machine"
	"dispatch/testdata/netlab"
)

// pause is that between two readings of machine.Table.Watch.
const pause = 50 * time.Millisecond

// labWatch is a watch of real interfaces. A View is old after a minute then, and read anew every half a minute: what
// is seen within 5 s was seen for its event.
type labWatch struct {
	t     *testing.T
	lines map[string]*Binding // of the last View, by uplink
	calls chan call
	reads atomic.Int32
	took  atomic.Int64 // all readings together
	last  atomic.Int64 // when the last one began, in nanoseconds of Unix time
}

type call struct {
	view *View
	at   time.Time
}

func watchLab(t *testing.T, names ...string) *labWatch {
	t.Helper()
	w := &labWatch{t: t, calls: make(chan call, 10000)}
	s := fleet(t, func() ([]machine.Interface, error) {
		begun := time.Now()
		defer func() { w.took.Add(int64(time.Since(begun))) }()
		w.reads.Add(1)
		w.last.Store(begun.UnixNano())
		return machine.Interfaces()
	}, names...)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Watch(ctx, slog.New(slog.NewTextHandler(t.Output(), nil)), func(v *View) {
			// Dials see it by now.
			if now, err := s.View(); err != nil || now != v {
				t.Errorf("View is not what changed is told: %v", err)
			}
			w.calls <- call{v, time.Now()}
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	w.take((<-w.calls).view)
	w.settle(5 * pause)
	return w
}

func (w *labWatch) take(v *View) {
	w.lines = make(map[string]*Binding)
	for n := range v.Bindings {
		w.lines[v.Bindings[n].Uplink.Name()] = &v.Bindings[n]
	}
}

// settle waits until the readings that belong to past events are over: one follows the other after a pause, so there
// must be none for quite a bit longer.
func (w *labWatch) settle(quiet time.Duration) {
	w.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(pause / 5) {
		for len(w.calls) > 0 {
			w.take((<-w.calls).view)
		}
		if time.Since(time.Unix(0, w.last.Load())) > quiet {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatal("the interfaces are read without end")
		}
	}
}

// sees makes a change and waits until the line is as it should be, then until all is quiet.
func (w *labWatch) sees(what string, change func(), name string, holds func(*Binding) bool) {
	w.t.Helper()
	if holds(w.lines[name]) {
		w.t.Fatalf("%s: it is so before: %+v", what, *w.lines[name])
	}
	begun := time.Now()
	change()
	made := time.Now()
	deadline := time.After(5 * time.Second)
	for {
		select {
		case c := <-w.calls:
			w.take(c.view)
			if !holds(w.lines[name]) {
				continue
			}
			w.t.Logf("%-40s seen %5.1f ms after the change began, which took %5.1f ms", what, ms(c.at.Sub(begun)), ms(made.Sub(begun)))
			w.settle(5 * pause / 2)
			if !holds(w.lines[name]) {
				w.t.Errorf("%s: it did not last: %+v", what, *w.lines[name])
			}
			return
		case <-deadline:
			w.t.Fatalf("%s: not seen within 5 s: %+v", what, *w.lines[name])
		}
	}
}

// network reads an address with its prefix length as netlink takes it.
func network(t *testing.T, s string) *net.IPNet {
	t.Helper()
	addr, n, err := net.ParseCIDR(s)
	if err != nil {
		t.Fatal(err)
	}
	n.IP = addr
	return n
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

func TestWatchSeesEachChange(t *testing.T) {
	lab := netlab.New(t, netlab.Config{Uplinks: make([]netlab.Uplink, 2)})
	// An address of its own keeps the IPv4 routes when the line's first one goes.
	const other = "198.51.100.77"
	lab.AddAddr(0, netlab.Addr{Prefix: netip.MustParsePrefix(other + "/24")})
	w := watchLab(t, "wan1", "wan2", other)
	first := w.lines["wan1"].Source(IPv4)

	families := func(f Family) func(*Binding) bool { return func(l *Binding) bool { return l.Families == f } }
	routed := func(f Family) func(*Binding) bool { return func(l *Binding) bool { return l.Routed == f } }
	source := func(f Family, a netip.Addr) func(*Binding) bool {
		return func(l *Binding) bool { return l.Source(f) == a }
	}
	w.sees("default route removed", func() { lab.SetDefault4(0, false) }, "wan1", routed(IPv6))
	w.sees("default route added", func() { lab.SetDefault4(0, true) }, "wan1", routed(Both))
	w.sees("IPv6 default route removed", func() { lab.SetDefault6(1, false) }, "wan2", routed(IPv4))
	w.sees("IPv6 default route added", func() { lab.SetDefault6(1, true) }, "wan2", routed(Both))
	w.sees("address removed", func() { lab.DelAddr(0, netip.MustParseAddr(other)) }, other, families(0))
	w.sees("address added", func() { lab.AddAddr(0, netlab.Addr{Prefix: netip.MustParsePrefix(other + "/24")}) }, other, families(IPv4))
	w.sees("address deprecated", func() {
		lab.AddAddr(0, netlab.Addr{Prefix: netip.MustParsePrefix(other + "/24"), Deprecated: true})
	}, other, families(0))
	w.sees("another address", func() { lab.Readdress(1, netip.MustParsePrefix("203.0.113.9/24")) }, "wan2",
		source(IPv4, netip.MustParseAddr("203.0.113.9")))
	w.sees("link down", func() { lab.ClientLink(0, false) }, "wan1", families(0))
	w.sees("link up", func() { lab.ClientLink(0, true) }, "wan1", func(l *Binding) bool {
		return l.Families == Both && l.Routed == Both && l.Source(IPv4) == first
	})
	// The kernel tells of carriers once a second at most (linkwatch), so these may take longer than their events.
	w.sees("carrier lost", func() { lab.ISPLink(1, false) }, "wan2", families(0))
	w.sees("carrier back", func() { lab.ISPLink(1, true) }, "wan2", families(Both))
	index := w.lines["wan2"].Index
	w.sees("unplugged", func() { lab.Unplug(1) }, "wan2", func(l *Binding) bool { return l.Index == 0 && l.Problem == "the interface is gone" })
	w.sees("plugged in again", func() { lab.Plug(1) }, "wan2", func(l *Binding) bool {
		return l.Families == Both && l.Index != index && l.Index != 0
	})
}

// A phone's tether is a new interface of the same name each time, and the phone gives another address.
func TestWatchSeesAnotherInterfaceOfTheSameName(t *testing.T) {
	netlab.New(t, netlab.Config{Uplinks: make([]netlab.Uplink, 1)})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	link := func(name string) netlink.Link {
		l, err := netlink.LinkByName(name)
		must(err)
		return l
	}
	plug := func(addr string) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "usb0"
		must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "phone"}))
		must(netlink.LinkSetUp(link("phone")))
		must(netlink.LinkSetUp(link("usb0")))
		must(netlink.AddrAdd(link("usb0"), &netlink.Addr{IPNet: network(t, addr+"/24")}))
	}
	unplug := func() { must(netlink.LinkDel(link("usb0"))) }
	plug("192.0.2.7")
	w := watchLab(t, "wan1", "usb0")
	for _, addr := range []string{"192.0.2.8", "192.0.2.9"} {
		old := w.lines["usb0"].Index
		w.sees("made anew with "+addr, func() {
			unplug()
			plug(addr)
		}, "usb0", func(l *Binding) bool { return l.Index != old && l.Source(IPv4).String() == addr })
	}
	unplug()
}

// A default route that only a rule leads to, in a table of its own, makes a line routed.
func TestLineIsRoutedByRule(t *testing.T) {
	lab := netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{{NoDefault4: true, PolicyRoutes: true}, {NoDefault4: true, NoDefault6: true}}})
	w := watchLab(t, "wan1", "wan2")
	if got := w.lines["wan1"].Routed; got != Both {
		t.Errorf("by rule: routed for %s", got)
	}
	if got := w.lines["wan2"].Routed; got != 0 {
		t.Errorf("without default routes: routed for %s", got)
	}
	rule := netlink.NewRule()
	rule.Priority, rule.Table, rule.Src = 77, 4242, network(t, lab.Uplink(1).IPv4.Addr().String()+"/32")
	link, err := netlink.LinkByName("wan2")
	if err != nil {
		t.Fatal(err)
	}
	w.sees("rule and route added", func() {
		if err := errors.Join(
			netlink.RouteAdd(&netlink.Route{Table: 4242, LinkIndex: link.Attrs().Index, Gw: lab.Uplink(1).Gateway4.AsSlice()}),
			netlink.RuleAdd(rule),
		); err != nil {
			t.Fatal(err)
		}
	}, "wan2", func(l *Binding) bool { return l.Routed == IPv4 })
	w.sees("rule removed", func() {
		if err := netlink.RuleDel(rule); err != nil {
			t.Fatal(err)
		}
	}, "wan2", func(l *Binding) bool { return l.Routed == 0 })
}

// Of 2,000 changes none costs a reading where they are a routing daemon's, and few where they could matter.
func TestWatchBoundsReadingsInABurst(t *testing.T) {
	lab := netlab.New(t, netlab.Config{Uplinks: make([]netlab.Uplink, 2)})
	w := watchLab(t, "wan1", "wan2")
	link, err := netlink.LinkByName("wan1")
	if err != nil {
		t.Fatal(err)
	}
	churn := func(what string, route func(n int) *netlink.Route) (readings int, took time.Duration) {
		reads, used, begun := w.reads.Load(), w.took.Load(), time.Now()
		for n := range 1000 {
			if err := errors.Join(netlink.RouteAdd(route(n)), netlink.RouteDel(route(n))); err != nil {
				t.Fatalf("%s %d: %v", what, n, err)
			}
		}
		took = time.Since(begun)
		w.settle(5 * pause)
		readings = int(w.reads.Load() - reads)
		t.Logf("2,000 changes of %s in %.0f ms: %d readings of %.2f ms", what, ms(took), readings,
			ms(time.Duration((w.took.Load()-used)/int64(max(readings, 1)))))
		return readings, took
	}
	gateway := lab.Uplink(0).Gateway4.AsSlice()
	if readings, _ := churn("routes to networks", func(at int) *netlink.Route {
		return &netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway, Dst: network(t, fmt.Sprintf("192.%d.%d.0/24", at/250, at%250))}
	}); readings > 0 {
		t.Errorf("%d readings for routes that are nobody's default", readings)
	}
	readings, took := churn("default routes", func(int) *netlink.Route {
		return &netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway, Table: 4242}
	})
	if most := int(took/pause) + 3; readings > most || readings < 2 {
		t.Errorf("%d readings in %s, want 2 to %d", readings, took, most)
	}
	if len(w.calls) > 0 {
		t.Errorf("changed was called %d times for what no line uses", len(w.calls))
	}
	w.sees("default route removed after that", func() { lab.SetDefault4(1, false) }, "wan2", func(l *Binding) bool { return l.Routed == IPv6 })
}
