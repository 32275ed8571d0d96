package doctor

import (
	"net"
	"testing"

	"dispatch/dispatcher/uplink"
)

// What is usual for Ethernet would break a tunnel.
func TestMTU(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind     uplink.Kind
		mtu      int
		status   Status
		commands bool
	}{
		{uplink.KindEthernet, 1500, Pass, false},
		{uplink.KindEthernet, 9000, Warn, true},
		{uplink.KindEthernet, 1200, Warn, true},
		{uplink.KindWiFi, 500, Warn, true},
		{uplink.KindTunnel, 1280, Pass, false},
		{uplink.KindTunnel, 1200, Warn, false},
		{uplink.KindVirtual, 65535, Pass, false},
	} {
		l := &line{Line: Line{Interface: "x0"}, link: &net.Interface{MTU: c.mtu}, iface: &uplink.Interface{Kind: c.kind, Addresses: make([]uplink.Address, 1)}}
		examineMTU(l)
		if len(l.Findings) != 1 || l.Findings[0].Status != c.status || len(l.Findings[0].Commands) > 0 != c.commands {
			t.Errorf("%s with %d: %+v", c.kind, c.mtu, l.Findings)
		}
	}
}
