package netlab

import (
	"os"
	"testing"

	"github.com/vishvananda/netlink"
)

// Tunnel makes a TUN interface, as a VPN does, that takes packets and loses them. It is gone when t ends. Where the
// machine has no device for it, or keeps it from an ordinary user, t is skipped, or fails if RequireEnv demands.
func Tunnel(t testing.TB, name string) {
	t.Helper()
	device, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		if os.Getenv(RequireEnv) == "1" {
			t.Fatalf("this test did NOT RUN, and %s=1 demands it: it needs a tunnel: %v", RequireEnv, err)
		}
		t.Skipf("this test did NOT RUN, it needs a tunnel: %v", err)
	}
	device.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	tun := &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TUN, NonPersist: true, Queues: 1}
	if err := netlink.LinkAdd(tun); err != nil {
		t.Fatalf("netlab: making the tunnel %s: %v", name, err)
	}
	t.Cleanup(func() {
		for _, f := range tun.Fds {
			f.Close()
		}
	})
}
