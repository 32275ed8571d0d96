//go:build darwin || freebsd || linux

package machine

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"
)

func TestBSDMediaAndKind(t *testing.T) {
	ifmediareq := func(current, status uint32) []byte {
		b := make([]byte, 44)
		copy(b, "en0")
		binary.NativeEndian.PutUint32(b[16:], current)
		binary.NativeEndian.PutUint32(b[24:], status)
		return b
	}
	for _, c := range []struct {
		name      string
		flags     net.Flags
		media     []byte
		want      Kind
		noCarrier bool
	}{
		{"en0", 0, ifmediareq(0x80, 3), KindWiFi, false},           // ieee80211 auto, active
		{"en1", 0, ifmediareq(0x00100030, 3), KindEthernet, false}, // 1000baseT full-duplex
		{"en2", 0, ifmediareq(0x20, 1), KindEthernet, true},        // no cable
		{"en3", 0, ifmediareq(0x20, 0), KindEthernet, false},       // the driver does not know
		{"wlan0", 0, ifmediareq(0x80, 1), KindWiFi, true},
		{"awdl0", 0, ifmediareq(0x80, 3), KindVirtual, false},
		{"p2p0", 0, nil, KindVirtual, false},
		{"epair0a", 0, ifmediareq(0x20, 3), KindVirtual, false},
		{"ppp0", net.FlagPointToPoint, nil, KindPPP, false},
		{"utun3", net.FlagPointToPoint, nil, KindTunnel, false},
		{"ng0", net.FlagPointToPoint, nil, KindTunnel, false},
		{"pdp_ip0", net.FlagPointToPoint, nil, KindMobile, false},
		{"lo0", net.FlagLoopback, nil, KindLoopback, false},
		{"lagg0", 0, ifmediareq(0x20, 3), KindEthernet, false},
		{"strange0", 0, nil, KindUnknown, false},
		{"short0", 0, ifmediareq(0x80, 1)[:31], KindUnknown, false},
	} {
		m := parseMedia(c.media)
		if got := bsdKind(c.name, c.flags, m); got != c.want || m.noCarrier != c.noCarrier {
			t.Errorf("%s: kind %q, no carrier %v; want %q, %v", c.name, got, m.noCarrier, c.want, c.noCarrier)
		}
	}
}

func TestBSDAddressRequest(t *testing.T) {
	b := newAddressRequest("a-name-that-is-too-long", 30, netip.MustParseAddr("fe80::1:2"), 7)
	want := make([]byte, 288)
	copy(want, "a-name-that-is-\x00\x1c\x1e")
	copy(want[24:], []byte{0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2})
	binary.NativeEndian.PutUint32(want[40:], 7)
	if !bytes.Equal(b, want) {
		t.Errorf("got  %x\nwant %x", b, want)
	}
	if b := newAddressRequest("en0", 30, netip.MustParseAddr("2001:db8::1"), 7); binary.NativeEndian.Uint32(b[40:]) != 0 {
		t.Error("a global address has a scope")
	}
}

func TestBSDAddressFlags(t *testing.T) {
	for flags, want := range map[uint32]Address{
		0x0000: {},
		0x0002: {Tentative: true},
		0x0004: {Tentative: true},
		0x0008: {Tentative: true},
		0x0010: {Deprecated: true},
		0x0080: {Temporary: true},
		0x04c0: {Temporary: true}, // secured, autoconf, temporary: as macOS has them
		0x0090: {Temporary: true, Deprecated: true},
	} {
		b := make([]byte, 288)
		binary.NativeEndian.PutUint32(b[16:], flags)
		var got Address
		applyAddressFlags(&got, b)
		if got != want {
			t.Errorf("%#x: got %+v, want %+v", flags, got, want)
		}
	}
	a := Address{Deprecated: true}
	if applyAddressFlags(&a, make([]byte, 19)); !a.Deprecated {
		t.Error("a short answer changed the address")
	}
}

func TestRoutingMessages(t *testing.T) {
	message := func(size int) []byte {
		b := make([]byte, size)
		binary.NativeEndian.PutUint16(b, uint16(size))
		return b
	}
	for _, c := range []struct {
		in   []byte
		want []int
	}{
		{nil, nil},
		{message(8), []int{8}},
		{append(message(8), message(12)...), []int{8, 12}},
		{append(message(8), message(12)[:11]...), []int{8}},
		{append(message(8), 0, 0, 0, 0), []int{8}},
		{append(message(8), 1), []int{8}},
	} {
		var got []int
		for m := range routingMessages(c.in) {
			got = append(got, len(m))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%x: got %v, want %v", c.in, got, c.want)
		}
	}
}

func TestMaskedPrefix(t *testing.T) {
	for _, c := range []struct{ dst, mask, want string }{
		{"0.0.0.0", "0.0.0.0", "0.0.0.0/0"},
		{"128.0.0.0", "128.0.0.0", "128.0.0.0/1"},
		{"10.1.0.0", "255.255.128.0", "10.1.0.0/17"},
		{"10.1.2.3", "255.255.255.255", "10.1.2.3/32"},
		{"10.0.0.0", "255.0.255.0", "invalid Prefix"},
		{"10.0.0.0", "253.0.0.0", "invalid Prefix"},
		{"10.0.0.0", "ffff::", "invalid Prefix"},
		{"::", "::", "::/0"},
		{"2000::", "e000::", "2000::/3"},
		{"fe80::", "ffff:ffff:ffff:ffff::", "fe80::/64"},
	} {
		dst, mask := netip.MustParseAddr(c.dst), netip.MustParseAddr(c.mask)
		if got := maskedPrefix(dst.AsSlice(), mask.AsSlice()).String(); got != c.want {
			t.Errorf("%s mask %s: got %s, want %s", c.dst, c.mask, got, c.want)
		}
	}
	if p := maskedPrefix(nil, nil); p.IsValid() {
		t.Errorf("no address and no mask give %v", p)
	}
}
