package machine

import (
	"net/netip"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/windows"
)

func rawSockaddr(s string) windows.RawSockaddrInet { return *newSockaddr(netip.MustParseAddr(s)) }

func TestForwardRoute(t *testing.T) {
	if size := unsafe.Sizeof(windows.MibIpForwardRow2{}); size != 104 {
		t.Fatalf("MIB_IPFORWARD_ROW2 has %d bytes, not 104", size)
	}
	adapter := &windows.IpAdapterAddresses{Ipv4Metric: 25, Ipv6Metric: 35}
	for _, c := range []struct {
		dst, router string
		bits        uint8
		loopback    uint8
		want        string // empty: none
		via         netip.Addr
		metric      int
	}{
		{"0.0.0.0", "10.0.0.1", 0, 0, "0.0.0.0/0", netip.MustParseAddr("10.0.0.1"), 28},
		{"0.0.0.0", "0.0.0.0", 0, 0, "0.0.0.0/0", netip.Addr{}, 28},
		{"128.0.0.0", "0.0.0.0", 1, 0, "128.0.0.0/1", netip.Addr{}, 28},
		{"::", "fe80::1", 0, 0, "::/0", netip.MustParseAddr("fe80::1"), 38},
		{"::", "::", 0, 0, "::/0", netip.Addr{}, 38},
		{"127.0.0.0", "0.0.0.0", 8, 1, "", netip.Addr{}, 0},
		{"10.0.0.0", "0.0.0.0", 33, 0, "", netip.Addr{}, 0},
	} {
		row := &windows.MibIpForwardRow2{Metric: 3, Loopback: c.loopback, NextHop: rawSockaddr(c.router)}
		row.DestinationPrefix = windows.IpAddressPrefix{Prefix: rawSockaddr(c.dst), PrefixLength: c.bits}
		r, ok := forwardRoute(row, adapter)
		if ok != (c.want != "") || ok && (r.to.String() != c.want || r.router != c.via || r.metric != c.metric) {
			t.Errorf("%s/%d by %s: got %v, %v", c.dst, c.bits, c.router, r, ok)
		}
	}
	if _, ok := forwardRoute(&windows.MibIpForwardRow2{}, adapter); ok {
		t.Error("a row without addresses is a route")
	}
}

func TestAdapterAddress(t *testing.T) {
	for _, c := range []struct {
		addr      string
		state     int32
		suffix    int32
		preferred uint32
		want      Address
	}{
		{"10.0.0.2", windows.IpDadStatePreferred, windows.IpSuffixOriginDhcp, 3600, Address{}},
		{"10.0.0.2", windows.IpDadStatePreferred, windows.IpSuffixOriginRandom, 3600, Address{}},
		{"10.0.0.2", windows.IpDadStateTentative, 0, 3600, Address{Tentative: true}},
		{"10.0.0.2", windows.IpDadStateDuplicate, 0, 3600, Address{Tentative: true}},
		{"10.0.0.2", windows.IpDadStateInvalid, 0, 3600, Address{Tentative: true}},
		{"2001:db8::1", windows.IpDadStatePreferred, windows.IpSuffixOriginLinkLayerAddress, 1, Address{}},
		{"2001:db8::1", windows.IpDadStatePreferred, windows.IpSuffixOriginRandom, 1, Address{Temporary: true}},
		{"2001:db8::1", windows.IpDadStateDeprecated, windows.IpSuffixOriginRandom, 1, Address{Temporary: true, Deprecated: true}},
		{"2001:db8::1", windows.IpDadStatePreferred, windows.IpSuffixOriginManual, 0, Address{Deprecated: true}},
	} {
		raw := new(syscall.RawSockaddrAny)
		*(*windows.RawSockaddrInet)(unsafe.Pointer(raw)) = rawSockaddr(c.addr)
		u := &windows.IpAdapterUnicastAddress{
			DadState: c.state, SuffixOrigin: c.suffix, PreferredLifetime: c.preferred, OnLinkPrefixLength: 24,
		}
		u.Address.Sockaddr, u.Address.SockaddrLength = raw, int32(unsafe.Sizeof(*raw))
		c.want.Prefix = netip.PrefixFrom(netip.MustParseAddr(c.addr), 24)
		if got, ok := adapterAddress(u); !ok || got != c.want {
			t.Errorf("got %+v, want %+v", got, c.want)
		}
	}
}

func TestAdapterKind(t *testing.T) {
	for ifType, want := range map[uint32]Kind{
		6: KindEthernet, 71: KindWiFi, 23: KindPPP, 243: KindMobile, 244: KindMobile,
		131: KindTunnel, 53: KindTunnel, 209: KindVirtual, 24: KindLoopback, 1: KindUnknown,
	} {
		if got := adapterKind(ifType); got != want {
			t.Errorf("%d: got %q, want %q", ifType, got, want)
		}
	}
}
