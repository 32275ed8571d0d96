package netlab

import (
	"net"
	"net/netip"
	"testing"
)

// Tests of other packages must compile where there is no lab: both files of Lab have these methods.
var (
	_ interface {
		Uplink(i int) Uplink
		ISP(i int) *Machine
		ServerAddr(addrs ...netip.Addr)
		Listen(t testing.TB, addr netip.AddrPort) net.Listener
		ListenPacket(t testing.TB, addr netip.AddrPort) net.PacketConn
		EchoPeer(t testing.TB, addr netip.AddrPort) netip.AddrPort
		EchoPeerHTTP(t testing.TB, addr netip.AddrPort) netip.AddrPort
		ClientLink(i int, up bool)
		ISPLink(i int, up bool)
		Unplug(i int)
		Plug(i int)
		Silence(i int, on bool)
		SilenceAll(i int, on bool)
		SetRate(i int, bits uint64)
		SetDefault4(i int, on bool)
		SetDefault6(i int, on bool)
		AddAddr(i int, a Addr)
		DelAddr(i int, addr netip.Addr)
		Readdress(i int, prefix netip.Prefix)
		TemporaryAddr(i int, from netip.Prefix) netip.Addr
		SetPortRange(lo, hi uint16)
		WatchStrays(t testing.TB) func() []string
	} = (*Lab)(nil)
	_ interface {
		Do(fn func() error) error
		Block(dst netip.Addr, fate Fate)
	} = (*Machine)(nil)
	_ = Lab{Internet: nil, Server4: netip.Addr{}, Server6: netip.Addr{}}
)
