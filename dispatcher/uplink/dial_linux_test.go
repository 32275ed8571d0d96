package uplink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dispatch/testdata/netlab"
)

var (
	server4 = netip.MustParseAddr("198.18.0.1")
	server6 = netip.MustParseAddr("2001:db8:5e::1")
)

// lines makes uplinks of a lab's interfaces.
func lines(t *testing.T, args ...string) []*Uplink {
	t.Helper()
	return labFleet(t, args...).Uplinks()
}

// peerSeen dials and returns the address that the server saw.
func peerSeen(t *testing.T, u *Uplink, to netip.AddrPort) (netip.Addr, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := u.DialStream(ctx, To(to))
	if err != nil {
		return netip.Addr{}, err
	}
	peer, err := netlab.ReadPeer(c)
	return peer.Addr(), errors.Join(err, c.Close())
}

// Device and source together carry every line in a network that does not lie; with rp_filter 1 the routes must follow
// the source as well.
func TestDialLeavesByItsLine(t *testing.T) {
	for name, config := range map[string]netlab.Uplink{
		"loose filter, metric routes":  {RPFilter: 2},
		"strict filter, policy routes": {RPFilter: 1, PolicyRoutes: true},
	} {
		t.Run(name, func(t *testing.T) {
			lab := netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{config, config, config}})
			for _, server := range []netip.Addr{server4, server6} {
				to := lab.EchoPeer(t, netip.AddrPortFrom(server, 0))
				for n, u := range lines(t, "wan1", "wan2", "wan3") {
					want := lab.Uplink(n).IPv4.Addr()
					if server.Is6() {
						want = lab.Uplink(n).IPv6.Addr()
					}
					if peer, err := peerSeen(t, u, to); err != nil || peer != want {
						t.Errorf("%s to %s: seen as %s, %v; want %s", u.Name(), server, peer, err, want)
					}
				}
				// By address as well.
				fixed := lab.Uplink(1).IPv4.Addr()
				if server.Is6() {
					fixed = lab.Uplink(1).IPv6.Addr()
				}
				if peer, err := peerSeen(t, lines(t, fixed.String())[0], to); err != nil || peer != fixed {
					t.Errorf("%s to %s: seen as %s, %v", fixed, server, peer, err)
				}
			}
		})
	}
}

func TestDialUDPLeavesByItsLine(t *testing.T) {
	lab := netlab.New(t, netlab.Config{})
	for _, server := range []netip.Addr{server4, server6} {
		at := lab.ListenPacket(t, netip.AddrPortFrom(server, 0))
		for n, u := range lines(t, "wan1", "wan2", "wan3") {
			c, err := u.DialUDP(t.Context(), at.LocalAddr().(*net.UDPAddr).AddrPort())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if err := at.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			_, from, err := at.ReadFrom(make([]byte, 1))
			if err != nil {
				t.Fatal(err)
			}
			got := from.(*net.UDPAddr).AddrPort().Addr().Unmap()
			if want := lab.Uplink(n); got != want.IPv4.Addr() && got != want.IPv6.Addr() {
				t.Errorf("%s: seen as %s", u.Name(), got)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestSocketsAreBoundToDeviceAndSource(t *testing.T) {
	lab := netlab.New(t, netlab.Config{})
	to := lab.EchoPeer(t, netip.AddrPortFrom(server4, 0))
	c, err := lines(t, "wan2")[0].DialStream(t.Context(), To(to))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		if device, err := unix.GetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE); err != nil || device != "wan2" {
			t.Errorf("SO_BINDTODEVICE %q, %v", device, err)
		}
		for option, want := range map[int]int{unix.IP_BIND_ADDRESS_NO_PORT: 1} {
			if v, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, option); err != nil || v != want {
				t.Errorf("option %d is %d, %v", option, v, err)
			}
		}
		if v, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE); err != nil || v != 1 {
			t.Errorf("SO_KEEPALIVE is %d, %v", v, err)
		}
		if v, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY); err != nil || v != 1 {
			t.Errorf("TCP_NODELAY is %d, %v", v, err)
		}
	})
	if err := errors.Join(err, c.Close()); err != nil {
		t.Fatal(err)
	}
	if a := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr(); a != lab.Uplink(1).IPv4.Addr() {
		t.Errorf("source %s", a)
	}
}

// A port range of 100 carries 100 connections to each of 3 destinations, for ports are taken at connect.
func TestPortsAreSharedBetweenDestinations(t *testing.T) {
	lab := netlab.New(t, netlab.Config{Uplinks: make([]netlab.Uplink, 1)})
	lab.SetPortRange(40000, 40099)
	u := lines(t, "wan1")[0]
	for _, base := range []string{"198.18.0.1", "2001:db8:5e::1"} {
		var servers []netip.AddrPort
		for a := netip.MustParseAddr(base); len(servers) < 3; a = a.Next() {
			servers = append(servers, hold(t, lab, a))
		}
		made := 0
		for n := range 3 * 50 {
			c, err := u.DialStream(t.Context(), To(servers[n%3]))
			if err != nil {
				t.Errorf("connection %d to %s: %v", n, servers[n%3], err)
				continue
			}
			made++
			defer func() {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}()
		}
		t.Logf("%d of 150 connections from 100 ports to 3 destinations of %s", made, FamilyOf(servers[0].Addr()))
	}
}

// hold accepts and keeps connections until the test ends.
func hold(t *testing.T, lab *netlab.Lab, at netip.Addr) netip.AddrPort {
	t.Helper()
	l := lab.Listen(t, netip.AddrPortFrom(at, 0))
	done := make(chan struct{})
	go func() {
		defer close(done)
		var kept []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			kept = append(kept, c)
		}
		for _, c := range kept {
			if err := c.Close(); err != nil {
				t.Log(err)
			}
		}
	}()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func TestFailuresOfALine(t *testing.T) {
	lab := netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{{}, {NoDefault4: true, NoDefault6: true}}})
	four, six := lab.EchoPeer(t, netip.AddrPortFrom(server4, 0)), lab.EchoPeer(t, netip.AddrPortFrom(server6, 0))
	up := lines(t, "wan1", "wan2")
	fails := func(what string, u *Uplink, to netip.AddrPort, want Failure, atLeast, atMost time.Duration) {
		t.Helper()
		start := time.Now()
		_, err := peerSeen(t, u, to)
		took := time.Since(start)
		if got := FailureOf(err); got != want || took < atLeast || took > atMost {
			t.Errorf("%s: %q after %s, %v; want %q within %s to %s", what, got, took, err, want, atLeast, atMost)
		}
		t.Logf("%s: %s after %s", what, FailureOf(err), took.Round(time.Millisecond))
	}
	at := func(a netip.AddrPort, port uint16) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), port) }
	fails("no default route, IPv4", up[1], four, HostUnreachable, 2500*time.Millisecond, 6*time.Second)
	fails("no default route, IPv6", up[1], six, NetworkUnreachable, 0, time.Second)
	fails("refused, IPv4", up[0], at(four, 1), Refused, 0, time.Second)
	fails("refused, IPv6", up[0], at(six, 1), Refused, 0, time.Second)

	// An address that changes is followed at once, without waiting for the table to age.
	lab.Readdress(0, netip.MustParsePrefix("198.51.100.77/24"))
	time.Sleep(2 * staleAfter)
	if peer, err := peerSeen(t, up[0], four); err != nil || peer != netip.MustParseAddr("198.51.100.77") {
		t.Errorf("after the address changed: seen as %s, %v", peer, err)
	}
	lab.ClientLink(0, false)
	up[0].fleet.Invalidate()
	fails("link down", up[0], four, LineUnusable, 0, time.Second)
	lab.ClientLink(0, true)
	up[0].fleet.Invalidate()
	if _, err := peerSeen(t, up[0], four); err != nil {
		t.Errorf("after the link came up: %v", err)
	}
	lab.Unplug(0)
	fails("unplugged", up[0], four, LineUnusable, 0, time.Second)
}

// A socket that cannot be bound to its device is a failed attempt; nothing leaves by another line.
func TestBindingFailsClosed(t *testing.T) {
	lab := netlab.New(t, netlab.Config{})
	to := lab.EchoPeer(t, netip.AddrPortFrom(server4, 0))
	u := lines(t, "wan2")[0]
	v, err := u.fleet.View()
	if err != nil {
		t.Fatal(err)
	}
	gone := v.Bindings[0]
	gone.Device = "gone0"
	d := net.Dialer{ControlContext: gone.control}
	c, err := d.DialTCP(t.Context(), "tcp", netip.AddrPortFrom(gone.Source(IPv4), 0), to)
	if err == nil {
		t.Fatal("dialled without binding", c.Close())
	}
	bind, ok := errors.AsType[*BindError](err)
	if !ok || bind.Option != "SO_BINDTODEVICE" || !errors.Is(err, syscall.ENODEV) || FailureOf(err) != LineUnusable {
		t.Errorf("got %v", err)
	}
}

// A line whose ports to a destination are all taken is not to blame, and its interface need not be looked at again.
func TestPortsThatRunOutAreNoFaultOfTheLine(t *testing.T) {
	lab := netlab.New(t, netlab.Config{})
	lab.SetPortRange(20000, 20003)
	to := lab.EchoPeer(t, netip.AddrPortFrom(server4, 0))
	u := lines(t, "wan2")[0]
	for n := range 5 {
		c, err := u.DialStream(t.Context(), To(to))
		if err == nil {
			t.Cleanup(func() { _ = c.Close() }) // the test is about the others
		}
		want := NoFailure
		if n == 4 {
			want = NoPort
		}
		if got := FailureOf(err); got != want || got.Blame() == BlameUplink && err != nil {
			t.Errorf("connection %d: %q, %v; want %q", n+1, got, err, want)
		}
	}
}

func TestFailureOf(t *testing.T) {
	t.Parallel()
	wrapped := func(errno syscall.Errno) error {
		return fmt.Errorf("x: %w", &net.OpError{Op: "dial", Err: errno})
	}
	of := func(call string, errno syscall.Errno) error {
		return &net.OpError{Op: "dial", Err: os.NewSyscallError(call, errno)}
	}
	for err, want := range map[error]Failure{
		nil:                                  NoFailure,
		wrapped(syscall.ECONNREFUSED):        Refused,
		wrapped(syscall.ECONNRESET):          Reset,
		wrapped(syscall.ENETUNREACH):         NetworkUnreachable,
		wrapped(syscall.EHOSTUNREACH):        HostUnreachable,
		wrapped(syscall.ETIMEDOUT):           TimedOut,
		wrapped(syscall.ENETDOWN):            LineUnusable,
		of("bind", syscall.EADDRNOTAVAIL):    LineUnusable,
		of("connect", syscall.EADDRNOTAVAIL): NoPort,
		of("connect", syscall.ECONNREFUSED):  Refused,
		wrapped(syscall.ENODEV):              LineUnusable,
		wrapped(syscall.EPERM):               Forbidden,
		of("bind", syscall.EADDRINUSE):       NoPort,
		wrapped(syscall.EMFILE):              Exhausted,
		wrapped(syscall.EINVAL):              OtherFailure,
		context.Canceled:                     Canceled,
		context.DeadlineExceeded:             TimedOut,
		&UnavailableError{}:                  LineUnusable,
		&BindError{Err: syscall.EINVAL}:      LineUnusable,
		&BindError{Err: syscall.EPERM}:       Forbidden,
		errors.New("connection refused"):     OtherFailure, // texts prove nothing
	} {
		if got := FailureOf(err); got != want {
			t.Errorf("FailureOf(%v) = %q, want %q", err, got, want)
		}
	}
}
