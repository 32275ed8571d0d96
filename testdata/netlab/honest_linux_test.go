package netlab

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// soon is how long a dial may take that is expected to lead nowhere.
const soon = 250 * time.Millisecond

// binding says how a dial is tied to a line. The zero value is a plain dial.
type binding struct {
	device string
	source netip.Addr
}

func via(u Uplink, family netip.Addr) binding {
	if family.Is4() {
		return binding{u.Name, u.IPv4.Addr()}
	}
	return binding{u.Name, u.IPv6.Addr()}
}

// dial connects to dst, bound as said, and returns the address that an EchoPeer there has seen.
func dial(dst netip.AddrPort, b binding, timeout time.Duration) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := connect(ctx, dst, b)
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return netip.Addr{}, err
	}
	peer, err := ReadPeer(conn)
	return peer.Addr(), err
}

func connect(ctx context.Context, dst netip.AddrPort, b binding) (net.Conn, error) {
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var bound error
		err := raw.Control(func(fd uintptr) {
			if b.device != "" {
				bound = os.NewSyscallError("SO_BINDTODEVICE", unix.BindToDevice(int(fd), b.device))
			}
		})
		return errors.Join(err, bound)
	}}
	if b.source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(b.source, 0))
	}
	return d.DialContext(ctx, "tcp", dst.String())
}

// mustReach fails the test unless a server on dst sees the source of b.
func mustReach(t *testing.T, dst netip.AddrPort, b binding) {
	t.Helper()
	peer, err := dial(dst, b, 10*time.Second)
	if err != nil || peer != b.source {
		t.Errorf("by %v to %v: peer %v, %v", b, dst, peer, err)
	}
}

// mustBeLost fails the test unless the dial is neither answered nor refused.
func mustBeLost(t *testing.T, dst netip.AddrPort, b binding) {
	t.Helper()
	if peer, err := dial(dst, b, soon); !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("by %v to %v: peer %v, %v; want no answer", b, dst, peer, err)
	}
}

// mustAllBeLost is mustBeLost for several bindings at the same time.
func mustAllBeLost(t *testing.T, dst netip.AddrPort, bindings ...binding) {
	t.Helper()
	var wait sync.WaitGroup
	for _, b := range bindings {
		wait.Go(func() { mustBeLost(t, dst, b) })
	}
	wait.Wait()
}

func mustFail(t *testing.T, dst netip.AddrPort, b binding, want error) {
	t.Helper()
	if peer, err := dial(dst, b, 10*time.Second); !errors.Is(err, want) {
		t.Errorf("by %v to %v: peer %v, %v; want %v", b, dst, peer, err, want)
	}
}

// servers runs an EchoPeer for each family.
func servers(t *testing.T, l *Lab) []netip.AddrPort {
	t.Helper()
	return []netip.AddrPort{
		l.EchoPeer(t, netip.AddrPortFrom(l.Server4, 0)),
		l.EchoPeer(t, netip.AddrPortFrom(l.Server6, 0)),
	}
}

func TestEveryLineReachesTheServers(t *testing.T) {
	start := time.Now()
	l := New(t, Config{})
	t.Logf("a lab of three lines took %v to build", time.Since(start))
	for _, dst := range servers(t, l) {
		for i := range 3 {
			mustReach(t, dst, via(l.Uplink(i), dst.Addr()))
		}
		// The metric decides for who does not choose.
		if peer, err := dial(dst, binding{}, 10*time.Second); err != nil || peer != via(l.Uplink(0), dst.Addr()).source {
			t.Errorf("unbound to %v: peer %v, %v", dst, peer, err)
		}
	}
}

func TestTheISPDropsTheSourcesOfOtherLines(t *testing.T) {
	l := New(t, Config{})
	var wait sync.WaitGroup
	for _, dst := range servers(t, l) {
		wait.Go(func() {
			second := via(l.Uplink(1), dst.Addr())
			mustReach(t, dst, second)
			// The source alone leaves by the first line, whose metric is the lowest.
			mustAllBeLost(t, dst, binding{source: second.source}, binding{l.Uplink(0).Name, second.source})
		})
	}
	wait.Wait()
}

// Everything that has to wait for address resolution to give up (3 s) is in this test, at the same time.
func TestWhoAnswersAddressResolution(t *testing.T) {
	l := New(t, Config{Uplinks: []Uplink{{}, {NoDefault4: true, NoDefault6: true}, {}}})
	dsts := servers(t, l)
	l.SilenceAll(2, true) // before the client has learnt who the gateway is

	first, second, third := l.Uplink(0), l.Uplink(1), l.Uplink(2)
	addr := netip.MustParseAddr
	unresolved := []struct {
		what string
		dst  netip.Addr
		by   binding
	}{
		{"IPv4 without a default route", l.Server4, via(second, l.Server4)},
		{"an IPv4 neighbour that does not exist", addr("198.51.100.77"), via(first, l.Server4)},
		{"another address of the ISP's", addr("198.19.1.1"), via(second, l.Server4)},
		{"an IPv4 gateway that is silent", l.Server4, via(third, l.Server4)},
		{"an IPv6 neighbour that does not exist, unbound", addr("2001:db8:1::77"), binding{}},
	}
	var wait sync.WaitGroup
	for _, u := range unresolved {
		wait.Go(func() {
			start := time.Now()
			mustFail(t, netip.AddrPortFrom(u.dst, 80), u.by, unix.EHOSTUNREACH)
			took := time.Since(start)
			t.Logf("%s: given up after %v", u.what, took.Round(time.Millisecond))
			if took < 2500*time.Millisecond {
				t.Errorf("%s: given up after %v, before address resolution can have", u.what, took)
			}
		})
	}
	start := time.Now()
	mustFail(t, dsts[1], via(second, l.Server6), unix.ENETUNREACH)
	t.Logf("IPv6 without a default route: given up after %v", time.Since(start))

	// The gateways themselves are neighbours that do exist: nobody listens there, and they say so.
	mustFail(t, netip.AddrPortFrom(first.Gateway4, 80), via(first, first.Gateway4), unix.ECONNREFUSED)
	mustFail(t, netip.AddrPortFrom(first.Gateway6, 80), via(first, first.Gateway6), unix.ECONNREFUSED)
	mustFail(t, netip.AddrPortFrom(second.Gateway4, 80), via(second, second.Gateway4), unix.ECONNREFUSED)

	// The kernel does not tell a socket that is bound to a device that an IPv6 neighbour was not found.
	mustBeLost(t, dsts[1], via(third, l.Server6))
	wait.Wait()
	neighbours, err := l.client.nl.NeighList(l.lines[2].index, unix.AF_INET6)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range neighbours {
		if n.HardwareAddr != nil && n.IP.IsGlobalUnicast() {
			t.Errorf("a gateway that is silent has said that %v is at %v", n.IP, n.HardwareAddr)
		}
	}

	l.SilenceAll(2, false)
	for _, dst := range dsts {
		mustReach(t, dst, via(third, dst.Addr()))
	}
}

func TestReversePathFilter(t *testing.T) {
	for _, c := range []struct {
		name     string
		rpFilter int
		policy   bool
		works    bool
	}{
		{"strict with metrics only", 1, false, false},
		{"strict with policy routes", 1, true, true},
		{"loose with metrics only", 2, false, true},
		{"loose with policy routes", 2, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			line := Uplink{RPFilter: c.rpFilter, PolicyRoutes: c.policy}
			l := New(t, Config{Uplinks: []Uplink{line, line}})
			for _, dst := range servers(t, l) {
				mustReach(t, dst, via(l.Uplink(0), dst.Addr()))
				second := via(l.Uplink(1), dst.Addr())
				if c.works || dst.Addr().Is6() { // the filter is IPv4's
					mustReach(t, dst, second)
				} else {
					mustBeLost(t, dst, second)
				}
				if c.policy { // the source alone is enough then
					mustReach(t, dst, binding{source: second.source})
				}
			}
		})
	}
}

func TestALineWithoutDefaultRouteIsUsableByPolicy(t *testing.T) {
	l := New(t, Config{Uplinks: []Uplink{{}, {NoDefault4: true, NoDefault6: true, PolicyRoutes: true}}})
	for _, dst := range servers(t, l) {
		mustReach(t, dst, via(l.Uplink(1), dst.Addr()))
	}
}

func TestOneFamilyOnly(t *testing.T) {
	l := New(t, Config{Uplinks: []Uplink{{NoIPv6: true}, {NoIPv4: true, Gateway6: netip.MustParseAddr("fe80::1")}}})
	dsts := servers(t, l)
	mustReach(t, dsts[0], via(l.Uplink(0), l.Server4))
	mustReach(t, dsts[1], via(l.Uplink(1), l.Server6))
	mustFail(t, dsts[1], binding{device: l.Uplink(0).Name}, unix.ENETUNREACH)
}

func TestServers(t *testing.T) {
	l := New(t, Config{})
	extra := netip.MustParseAddr("198.18.7.7")
	mustFail(t, netip.AddrPortFrom(extra, 80), via(l.Uplink(0), extra), unix.ENETUNREACH) // nobody has it
	l.ServerAddr(extra)
	mustFail(t, netip.AddrPortFrom(extra, 80), via(l.Uplink(0), extra), unix.ECONNREFUSED)
	mustReach(t, l.EchoPeer(t, netip.AddrPortFrom(extra, 80)), via(l.Uplink(0), extra))

	url := "http://" + l.EchoPeerHTTP(t, netip.AddrPortFrom(l.Server6, 0)).String()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := ReadPeer(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil || peer.Addr() != l.Uplink(0).IPv6.Addr() {
		t.Errorf("over HTTP: peer %v, %v", peer, err)
	}

	server := l.ListenPacket(t, netip.AddrPortFrom(l.Server4, 53))
	conn, err := new(net.Dialer).DialContext(t.Context(), "udp", server.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := server.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	n, from, err := server.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "hello" || from.String() != conn.LocalAddr().String() {
		t.Errorf("over UDP: %q from %v, %v", buf[:n], from, err)
	}
}
