package netlab

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Strays are told, each at the line that it came by, with the line plugged in again too; what is right is not.
func TestStrays(t *testing.T) {
	l := New(t, Config{})
	strays := l.WatchStrays(t)
	want := func(texts ...string) {
		t.Helper()
		var got []string
		for end := time.Now().Add(2 * time.Second); len(got) < len(texts) && time.Now().Before(end); time.Sleep(time.Millisecond) {
			got = append(got, strays()...)
		}
		if len(got) != len(texts) {
			t.Errorf("strays: %q, want %q", got, texts)
			return
		}
		for i, text := range texts {
			if !strings.Contains(got[i], text) {
				t.Errorf("stray %q, want %q in it", got[i], text)
			}
		}
	}
	for _, dst := range servers(t, l) {
		first, second := via(l.Uplink(0), dst.Addr()), via(l.Uplink(1), dst.Addr())
		mustReach(t, dst, first)
		mustReach(t, dst, second)
		want()
		mustBeLost(t, dst, binding{source: second.source}) // by the first line, whose metric is the lowest
		want("wan1: TCP from " + second.source.String() + " to " + dst.String() + ", flags 0x2")
		l.Unplug(0)
		l.Plug(0)
		want()
		send(t, second.source, dst)
		want("wan1: UDP from " + second.source.String() + " to " + dst.String())
	}
}

// send sends a datagram that is bound to its source alone.
func send(t *testing.T, from netip.Addr, to netip.AddrPort) {
	t.Helper()
	c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("stray")); err != nil {
		t.Error(err)
	}
}
