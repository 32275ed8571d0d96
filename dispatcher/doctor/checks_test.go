package doctor

import (
	"net"
	"testing"

	"dispatch/dispatcher/machine"
)

// What is usual for Ethernet would break a tunnel.
func TestMTU(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind     machine.Kind
		mtu      int
		status   Status
		commands bool
	}{
		{machine.KindEthernet, 1500, Pass, false},
		{machine.KindEthernet, 9000, Warn, true},
		{machine.KindEthernet, 1200, Warn, true},
		{machine.KindWiFi, 500, Warn, true},
		{machine.KindTunnel, 1280, Pass, false},
		{machine.KindTunnel, 1200, Warn, false},
		{machine.KindVirtual, 65535, Pass, false},
	} {
		l := &line{Line: Line{Interface: "x0"}, link: &net.Interface{MTU: c.mtu}, iface: &machine.Interface{Kind: c.kind, Addresses: make([]machine.Address, 1)}}
		examineMTU(l)
		if len(l.Findings) != 1 || l.Findings[0].Status != c.status || len(l.Findings[0].Commands) > 0 != c.commands {
			t.Errorf("%s with %d: %+v", c.kind, c.mtu, l.Findings)
		}
	}
}
