package netlab

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestClientLinkDownAndUp(t *testing.T) {
	extra, added := netip.MustParsePrefix("2001:db8:2::3/64"), netip.MustParsePrefix("2001:db8:2::4/64")
	l := New(t, Config{Uplinks: []Uplink{{}, {PolicyRoutes: true, Extra: []Addr{{Prefix: extra}}}}})
	for _, dst := range servers(t, l) {
		second := via(l.Uplink(1), dst.Addr())
		mustReach(t, dst, second)
		l.ClientLink(1, false)
		down := unix.ENETUNREACH
		if dst.Addr().Is6() {
			down = unix.EADDRNOTAVAIL // the kernel forgets the addresses as well
		}
		mustFail(t, dst, second, down)
		mustReach(t, dst, via(l.Uplink(0), dst.Addr()))
		l.AddAddr(1, Addr{Prefix: added})
		l.ClientLink(1, true)
		mustReach(t, dst, second)
		mustReach(t, dst, binding{source: second.source})
		if dst.Addr().Is6() {
			mustReach(t, dst, binding{l.Uplink(1).Name, extra.Addr()})
			mustReach(t, dst, binding{l.Uplink(1).Name, added.Addr()})
		}
	}
}

func TestISPLinkDownAndUp(t *testing.T) {
	l := New(t, Config{Uplinks: []Uplink{{}, {Gateway6: netip.MustParseAddr("fe80::1")}}})
	dsts := servers(t, l)
	l.ISPLink(1, false)
	if err := poll("the loss of the carrier", func() (bool, error) {
		wan, err := net.InterfaceByName(l.Uplink(1).Name)
		return err == nil && wan.Flags&net.FlagUp != 0 && wan.Flags&net.FlagRunning == 0, err
	}); err != nil {
		t.Error(err)
	}
	var wait sync.WaitGroup
	for _, dst := range dsts {
		wait.Go(func() {
			if peer, err := dial(dst, via(l.Uplink(1), dst.Addr()), soon); err == nil {
				t.Errorf("without a carrier, %v sees %v", dst, peer)
			}
		})
	}
	wait.Wait()
	l.ISPLink(1, true)
	for _, dst := range dsts {
		mustReach(t, dst, via(l.Uplink(1), dst.Addr()))
	}
}

func TestUnplugAndPlug(t *testing.T) {
	l := New(t, Config{Uplinks: []Uplink{{}, {RPFilter: 1, PolicyRoutes: true}}})
	second := l.Uplink(1)
	before, err := net.InterfaceByName(second.Name)
	if err != nil {
		t.Fatal(err)
	}
	for _, dst := range servers(t, l) {
		l.Unplug(1)
		mustFail(t, dst, via(second, dst.Addr()), unix.ENODEV)
		l.Plug(1)
		mustReach(t, dst, via(second, dst.Addr()))
	}
	after, err := net.InterfaceByName(second.Name)
	if err != nil || after.Index == before.Index {
		t.Errorf("the interface has index %v, and had %v, %v", after, before.Index, err)
	}
}

func TestSilence(t *testing.T) {
	l := New(t, Config{})
	dsts := servers(t, l)
	u := l.Uplink(0)
	gateways := []netip.AddrPort{netip.AddrPortFrom(u.Gateway4, 80), netip.AddrPortFrom(u.Gateway6, 80)}
	inBothFamilies := func(check func(dst, gateway netip.AddrPort, first binding)) {
		var wait sync.WaitGroup
		for i, dst := range dsts {
			wait.Go(func() { check(dst, gateways[i], via(u, dst.Addr())) })
		}
		wait.Wait()
	}
	works := func(dst, gateway netip.AddrPort, first binding) {
		mustReach(t, dst, first)
		mustFail(t, gateway, first, unix.ECONNREFUSED)
	}
	inBothFamilies(works)
	l.Silence(0, true)
	inBothFamilies(func(dst, gateway netip.AddrPort, first binding) {
		mustBeLost(t, dst, first)
		mustFail(t, gateway, first, unix.ECONNREFUSED)
		mustReach(t, dst, via(l.Uplink(1), dst.Addr()))
	})
	l.SilenceAll(0, true)
	inBothFamilies(func(dst, gateway netip.AddrPort, first binding) {
		mustBeLost(t, gateway, first)
		mustBeLost(t, dst, first)
	})
	l.Silence(0, false)
	inBothFamilies(works)
}

func TestSilenceKeepsWhatIsUnderWay(t *testing.T) {
	l := New(t, Config{})
	ln := l.Listen(t, netip.AddrPortFrom(l.Server4, 0))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client, err := connect(ctx, netip.MustParseAddrPort(ln.Addr().String()), via(l.Uplink(2), l.Server4))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()

	ways := []struct{ from, to net.Conn }{{client, server}, {server, client}}
	l.Silence(2, true)
	for _, way := range ways {
		if _, err := way.from.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		if err := way.to.SetReadDeadline(time.Now().Add(soon / 2)); err != nil {
			t.Fatal(err)
		}
		if n, err := way.to.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("through a silent ISP came %d bytes, %v", n, err)
		}
	}
	l.Silence(2, false)
	for _, way := range ways {
		if err := way.to.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(way.to, make([]byte, 1)); err != nil {
			t.Errorf("after the silence: %v", err)
		}
	}
}

func TestBlock(t *testing.T) {
	l := New(t, Config{})
	var wait sync.WaitGroup
	for _, dst := range append(servers(t, l),
		l.EchoPeer(t, netip.MustParseAddrPort("198.18.0.2:0")), l.EchoPeer(t, netip.MustParseAddrPort("[2001:db8:5e::2]:0"))) {
		first, second := via(l.Uplink(0), dst.Addr()), via(l.Uplink(1), dst.Addr())
		everywhere := dst.Addr() == l.Server4 || dst.Addr() == l.Server6
		machine, affected := l.ISP(0), []binding{first}
		if everywhere {
			machine, affected = l.Internet, []binding{first, second}
		}
		wait.Go(func() {
			machine.Block(dst.Addr(), Drop)
			mustAllBeLost(t, dst, affected...)
			machine.Block(dst.Addr(), Unreachable)
			mustFail(t, dst, first, unix.ENETUNREACH)
			if !everywhere {
				mustReach(t, dst, second)
			}
			machine.Block(dst.Addr(), Deliver)
			mustReach(t, dst, first)
		})
	}
	wait.Wait()
}

func TestDefaultRoutesComeAndGo(t *testing.T) {
	l := New(t, Config{Uplinks: []Uplink{{}, {}}})
	set := []func(int, bool){l.SetDefault4, l.SetDefault6}
	for i, dst := range servers(t, l) {
		sees := func(want int) {
			t.Helper()
			if peer, err := dial(dst, binding{}, 10*time.Second); err != nil || peer != via(l.Uplink(want), dst.Addr()).source {
				t.Errorf("unbound to %v: peer %v, %v; want line %d", dst, peer, err, want)
			}
		}
		sees(0)
		set[i](0, false)
		sees(1)
		set[i](1, false)
		mustFail(t, dst, binding{}, unix.ENETUNREACH)
		set[i](1, true)
		sees(1)
		set[i](0, true)
		sees(0)
	}
}

func TestAddressesComeAndGo(t *testing.T) {
	t.Run("with metrics only", func(t *testing.T) { testAddresses(t, Uplink{}) })
	t.Run("with policy routes", func(t *testing.T) { testAddresses(t, Uplink{PolicyRoutes: true, RPFilter: 1}) })
}

func testAddresses(t *testing.T, line Uplink) {
	prefix := netip.MustParsePrefix
	l := New(t, Config{Uplinks: []Uplink{{}, line}})
	for i, dst := range servers(t, l) {
		added := []netip.Prefix{prefix("203.0.113.9/24"), prefix("2001:db8:2::9/64")}[i]
		changed := []netip.Prefix{prefix("203.0.113.77/24"), prefix("2001:db8:2::77/64")}[i]
		old := via(l.Uplink(1), dst.Addr())

		l.AddAddr(1, Addr{Prefix: added})
		mustReach(t, dst, binding{old.device, added.Addr()})
		l.DelAddr(1, added.Addr())
		mustFail(t, dst, binding{old.device, added.Addr()}, unix.EADDRNOTAVAIL)

		l.Readdress(1, changed)
		if got := via(l.Uplink(1), dst.Addr()); got.source != changed.Addr() {
			t.Errorf("Uplink says %v, want %v", got.source, changed)
		}
		mustFail(t, dst, old, unix.EADDRNOTAVAIL)
		mustReach(t, dst, binding{old.device, changed.Addr()})

		l.DelAddr(1, changed.Addr()) // none left
		mustFail(t, dst, binding{old.device, changed.Addr()}, unix.EADDRNOTAVAIL)
		l.Readdress(1, netip.PrefixFrom(old.source, changed.Bits()))
		mustReach(t, dst, old)
	}
}

func TestKindsOfAddresses(t *testing.T) {
	prefix := netip.MustParsePrefix
	deprecated4, deprecated6 := prefix("198.51.100.3/24"), prefix("2001:db8:1::3/64")
	tentative, managed, ula := prefix("2001:db8:1::4/64"), prefix("2001:db8:1::5/64"), prefix("fd00:db8::6/64")
	l := New(t, Config{Uplinks: []Uplink{{Extra: []Addr{
		{Prefix: deprecated4, Deprecated: true},
		{Prefix: deprecated6, Deprecated: true},
		{Prefix: managed, Temporary: true},
		{Prefix: tentative, Tentative: true},
		{Prefix: ula},
	}}}})
	temporary := l.TemporaryAddr(0, managed)

	const kinds = unix.IFA_F_DEPRECATED | unix.IFA_F_TENTATIVE | unix.IFA_F_TEMPORARY // IPv4: TEMPORARY is SECONDARY
	check := func(want map[netip.Addr]int) {
		t.Helper()
		addrs, err := l.client.nl.AddrList(linkAt(l.lines[0].index), unix.AF_UNSPEC)
		if err != nil {
			t.Fatal(err)
		}
		got := map[netip.Addr]int{}
		for _, a := range addrs {
			ip, _ := netip.AddrFromSlice(a.IP)
			if !ip.IsLinkLocalUnicast() {
				got[ip] = a.Flags & kinds
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("addresses and flags are %v, want %v", got, want)
		}
	}
	want := map[netip.Addr]int{
		l.Uplink(0).IPv4.Addr(): 0,
		l.Uplink(0).IPv6.Addr(): 0,
		deprecated4.Addr():      unix.IFA_F_DEPRECATED | unix.IFA_F_SECONDARY,
		deprecated6.Addr():      unix.IFA_F_DEPRECATED,
		tentative.Addr():        unix.IFA_F_TENTATIVE,
		managed.Addr():          0,
		ula.Addr():              0,
		temporary:               unix.IFA_F_TEMPORARY,
	}
	check(want)
	dsts := servers(t, l)
	mustReach(t, dsts[0], binding{source: deprecated4.Addr()})
	mustReach(t, dsts[1], binding{source: temporary})
	mustBeLost(t, dsts[1], binding{source: ula.Addr()}) // no ISP accepts it as a source
	mustFail(t, dsts[1], binding{source: tentative.Addr()}, unix.EADDRNOTAVAIL)

	l.AddAddr(0, Addr{Prefix: netip.PrefixFrom(temporary, 64), Deprecated: true})
	want[temporary] |= unix.IFA_F_DEPRECATED
	check(want)
	l.AddAddr(0, Addr{Prefix: l.Uplink(0).IPv6, Deprecated: true})
	want[l.Uplink(0).IPv6.Addr()] = unix.IFA_F_DEPRECATED
	check(want)
}

func TestPortRange(t *testing.T) {
	l := New(t, Config{})
	l.SetPortRange(20000, 20009)
	ln := l.Listen(t, netip.AddrPortFrom(l.Server4, 0))
	dst := netip.MustParseAddrPort(ln.Addr().String())
	for i := range 11 {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		conn, err := connect(ctx, dst, binding{device: l.Uplink(0).Name})
		cancel()
		if err != nil {
			if i != 10 || !errors.Is(err, unix.EADDRNOTAVAIL) {
				t.Errorf("connection %d: %v", i, err)
			}
			break
		}
		defer conn.Close()
		if port := conn.LocalAddr().(*net.TCPAddr).Port; port < 20000 || port > 20009 {
			t.Errorf("connection %d has source port %d", i, port)
		}
	}
}

func TestRate(t *testing.T) {
	const (
		rate  = 4_000_000 // bits per second: slow enough to tell on a busy machine
		bytes = 200_000   // 0.4 s at that rate
	)
	l := New(t, Config{Uplinks: []Uplink{{Rate: rate}}})
	ln := l.Listen(t, netip.AddrPortFrom(l.Server4, 0))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	client, err := connect(ctx, netip.MustParseAddrPort(ln.Addr().String()), via(l.Uplink(0), l.Server4))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()

	transfer := func(from, to net.Conn) float64 {
		t.Helper()
		if err := errors.Join(from.SetDeadline(time.Now().Add(30*time.Second)), to.SetDeadline(time.Now().Add(30*time.Second))); err != nil {
			t.Fatal(err)
		}
		sent := make(chan error, 1)
		start := time.Now()
		go func() {
			_, err := from.Write(make([]byte, bytes))
			sent <- err
		}()
		_, err := io.CopyN(io.Discard, to, bytes)
		took := time.Since(start)
		if err := errors.Join(err, <-sent); err != nil {
			t.Fatal(err)
		}
		return 8 * bytes / took.Seconds() / rate
	}
	for _, way := range []struct {
		name     string
		from, to net.Conn
	}{{"up", client, server}, {"down", server, client}} {
		share := transfer(way.from, way.to)
		t.Logf("%s: %.1f %% of the rate", way.name, 100*share)
		// At most 95.6 % is payload; the full bucket at the start adds 5 ms worth.
		if share > 0.99 || share < 0.5 {
			t.Errorf("%s: %.1f %% of the rate", way.name, 100*share)
		}
	}
	l.SetRate(0, 0)
	if share := transfer(client, server); share < 2 {
		t.Errorf("without a limit: %.1f %% of the former rate", 100*share)
	}
}
