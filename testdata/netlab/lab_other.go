//go:build !linux

package netlab

import (
	"net/netip"
	"testing"
)

// Lab is a running test network. On this system New makes none, so that none of its methods is ever called.
type Lab struct {
	Internet         *Machine
	Server4, Server6 netip.Addr
}

// Machine is a machine of the lab other than the client.
type Machine struct{}

// New skips or fails t, saying why there is no lab.
func New(t testing.TB, _ Config) *Lab {
	t.Helper()
	Require(t)
	t.Fatal("netlab: DISPATCH_NETLAB says that there is a lab, but this system has none: unset it")
	return nil
}

// The rest is described in the files for Linux.

func (*Machine) Do(func() error) error                         { return nil }
func (*Machine) Block(netip.Addr, Fate)                        {}
func (*Lab) Uplink(int) Uplink                                 { return Uplink{} }
func (*Lab) ISP(int) *Machine                                  { return nil }
func (*Lab) ServerAddr(...netip.Addr)                          {}
func (*Lab) ClientLink(int, bool)                              {}
func (*Lab) ISPLink(int, bool)                                 {}
func (*Lab) Unplug(int)                                        {}
func (*Lab) Plug(int)                                          {}
func (*Lab) Silence(int, bool)                                 {}
func (*Lab) SilenceAll(int, bool)                              {}
func (*Lab) SetRate(int, uint64)                               {}
func (*Lab) WatchStrays(testing.TB) func() []string            { return nil }
func (*Lab) SetDefault4(int, bool)                             {}
func (*Lab) SetDefault6(int, bool)                             {}
func (*Lab) AddAddr(int, Addr)                                 {}
func (*Lab) DelAddr(int, netip.Addr)                           {}
func (*Lab) Readdress(int, netip.Prefix)                       {}
func (*Lab) TemporaryAddr(int, netip.Prefix) (addr netip.Addr) { return addr }
func (*Lab) SetPortRange(lo, hi uint16)                        {}
