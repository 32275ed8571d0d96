package uplink

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dispatch/dispatcher/machine"
)

func address(prefix string) machine.Address {
	return machine.Address{Prefix: netip.MustParsePrefix(prefix)}
}

func via(f Family, gateway string) machine.DefaultRoute {
	return machine.DefaultRoute{Family: f, Router: netip.MustParseAddr(gateway)}
}

// laptop has Wi-Fi and Ethernet with default routes, a phone's tether that is down, a VPN without a
// default route and a container bridge.
func laptop() []machine.Interface {
	old := address("2001:db8:1::aaaa/64")
	old.Deprecated = true
	temporary := address("2001:db8:1::bbbb/64")
	temporary.Temporary = true
	tentative := address("2001:db8:1::cccc/64")
	tentative.Tentative = true
	return []machine.Interface{
		{Index: 1, Name: "lo", Kind: machine.KindLoopback, Up: true, Addresses: []machine.Address{address("127.0.0.1/8"), address("::1/128")}},
		{
			Index: 2, Name: "eth0", Kind: machine.KindEthernet, Up: true,
			Addresses: []machine.Address{
				address("169.254.9.9/16"), address("198.51.100.2/24"), address("fe80::2/64"), old, tentative,
				address("fd00::2/64"), address("2001:db8:1::2/64"), temporary,
			},
			DefaultRoutes: []machine.DefaultRoute{via(IPv4, "198.51.100.1"), via(IPv6, "fe80::1")},
		},
		{
			Index: 3, Name: "wlan0", Kind: machine.KindWiFi, Up: true,
			Addresses:     []machine.Address{address("203.0.113.7/24"), address("fd01::7/64"), address("fe80::7/64")},
			DefaultRoutes: []machine.DefaultRoute{via(IPv4, "203.0.113.1")},
		},
		{Index: 4, Name: "usb0", Kind: machine.KindEthernet, Addresses: []machine.Address{address("198.18.4.2/24")}, DefaultRoutes: []machine.DefaultRoute{via(IPv4, "198.18.4.1")}},
		{Index: 5, Name: "tun0", Kind: machine.KindTunnel, Up: true, Addresses: []machine.Address{address("198.18.5.2/24")}},
		{Index: 6, Name: "docker0", Kind: machine.KindVirtual, Up: true, Addresses: []machine.Address{address("172.17.0.1/16")}},
		{Index: 7, Name: "only6", Kind: machine.KindEthernet, Up: true, Addresses: []machine.Address{address("fe80::9/64")}},
	}
}

func fleet(t *testing.T, list func() ([]machine.Interface, error), args ...string) *Fleet {
	t.Helper()
	specs, err := ParseSpecs(args)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewFleet(&machine.Table{List: list}, specs)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fixed(interfaces []machine.Interface) func() ([]machine.Interface, error) {
	return func() ([]machine.Interface, error) { return interfaces, nil }
}

func TestAutomatic(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"lo": "loopback", "eth0": "", "wlan0": "", "usb0": "down", "tun0": "no default route",
		"docker0": "no default route", "only6": "only link-local addresses",
	}
	for _, c := range Automatic(laptop()) {
		if c.Reason != want[c.Interface.Name] || c.Use != (c.Reason == "") {
			t.Errorf("%s: use %t, reason %q; want %q", c.Interface.Name, c.Use, c.Reason, want[c.Interface.Name])
		}
	}
	// Without any default route, a usable address is enough.
	m := laptop()
	m[1].DefaultRoutes, m[2].DefaultRoutes = nil, nil
	used := ""
	for _, c := range Automatic(m) {
		if c.Use {
			used += c.Interface.Name + " "
		}
	}
	if used != "eth0 wlan0 " {
		t.Errorf("without default routes start would use %q", used)
	}
}

// A VPN's default route makes it no further line: what goes by it leaves by the others.
func TestAutomaticLeavesOutTunnelsBesideLines(t *testing.T) {
	t.Parallel()
	const tunnel, virtual = "a tunnel beside other lines; name it to use it", "a virtual interface beside other lines; name it to use it"
	routed := []machine.DefaultRoute{via(IPv4, "198.51.100.1")}
	for _, c := range []struct {
		about                string
		eth0, tun0, br0, ppp []machine.DefaultRoute
		want                 map[string]string
	}{
		{"all have a route", routed, routed, routed, routed, map[string]string{"eth0": "", "tun0": tunnel, "br0": virtual, "ppp0": ""}},
		{"PPP alone is a line", nil, routed, nil, routed, map[string]string{"eth0": "no default route", "tun0": tunnel, "br0": "no default route", "ppp0": ""}},
		{"the VPN has taken the route away", nil, routed, nil, nil, map[string]string{"eth0": "no default route", "tun0": "", "br0": "no default route", "ppp0": "no default route"}},
		{"a bridge beside a VPN", nil, routed, routed, nil, map[string]string{"eth0": "no default route", "tun0": tunnel, "br0": "", "ppp0": "no default route"}},
		{"none has", nil, nil, nil, nil, map[string]string{"eth0": "", "tun0": tunnel, "br0": virtual, "ppp0": ""}},
	} {
		for _, choice := range Automatic([]machine.Interface{
			{Index: 2, Name: "eth0", Kind: machine.KindEthernet, Up: true, Addresses: []machine.Address{address("198.51.100.2/24")}, DefaultRoutes: c.eth0},
			{Index: 3, Name: "tun0", Kind: machine.KindTunnel, Up: true, Addresses: []machine.Address{address("192.0.2.77/32")}, DefaultRoutes: c.tun0},
			{Index: 4, Name: "br0", Kind: machine.KindVirtual, Up: true, Addresses: []machine.Address{address("172.17.0.1/16")}, DefaultRoutes: c.br0},
			{Index: 5, Name: "ppp0", Kind: machine.KindPPP, Up: true, Addresses: []machine.Address{address("203.0.113.9/32")}, DefaultRoutes: c.ppp},
		}) {
			if want := c.want[choice.Interface.Name]; choice.Reason != want || choice.Use != (want == "") {
				t.Errorf("%s: %s: use %t, reason %q; want %q", c.about, choice.Interface.Name, choice.Use, choice.Reason, want)
			}
		}
	}
}

func TestNewFleetRefusesWhatIsNotThere(t *testing.T) {
	t.Parallel()
	for _, arg := range []string{"eth9", "198.51.100.99"} {
		spec, err := ParseSpec(arg)
		if err != nil {
			t.Fatal(err)
		}
		_, err = NewFleet(&machine.Table{List: fixed(laptop())}, []Spec{spec})
		if !errors.Is(err, ErrNoMatch) {
			t.Errorf("%s: %v", arg, err)
			continue
		}
		for _, exists := range []string{"eth0 (198.51.100.2", "wlan0", "docker0", arg} {
			if !strings.Contains(err.Error(), exists) {
				t.Errorf("%s: the error does not name %s: %v", arg, exists, err)
			}
		}
	}
	if _, err := NewFleet(&machine.Table{List: fixed(laptop())}, nil); err == nil {
		t.Error("a set without uplinks was made")
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	s := fleet(t, fixed(laptop()), "eth0", "wlan0@3", "usb0", "203.0.113.7", "fd01::7", "only6", "2001:db8:1::aaaa")
	v, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range []struct {
		device, problem string
		families        Family
	}{
		{"eth0", "", Both},
		{"wlan0", "", IPv4},
		{"usb0", "the link is down", 0},
		{"wlan0", "", IPv4},
		{"wlan0", "", IPv6}, // who names a ULA means it
		{"only6", "only link-local addresses", 0},
		{"eth0", "the address is deprecated", 0},
	} {
		l := v.Bindings[n]
		if l.Device != want.device || l.Problem != want.problem || l.Families != want.families {
			t.Errorf("line %d: %s, %q, %s; want %+v", n, l.Device, l.Problem, l.Families, want)
		}
	}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	s := fleet(t, fixed(laptop()), "eth0", "wlan0")
	v, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]Place{
		"127.0.0.53":          {Direct: true, Own: true},
		"::1":                 {Direct: true, Own: true},
		"198.51.100.2":        {Direct: true, Own: true},
		"::ffff:198.51.100.2": {Direct: true, Own: true},
		"172.17.0.1":          {Direct: true, Own: true},
		"fe80::99%eth0":       {Direct: true},
		"169.254.169.254":     {Direct: true},
		"172.17.3.4":          {Direct: true},  // on the bridge, which is no uplink
		"198.18.5.9":          {Direct: true},  // in the VPN's own network
		"198.18.4.9":          {},              // usb0 is down
		"198.51.100.77":       {Lines: 1 << 0}, // only eth0 has this neighbour
		"203.0.113.1":         {Lines: 1 << 1},
		"2001:db8:1::77":      {Lines: 1 << 0},
		"192.0.2.1":           {},
		"2001:db8:ffff::1":    {},
	} {
		if got := v.Place(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Place(%s) = %+v, want %+v", addr, got, want)
		}
	}
}

func TestPlaceLongestPrefixDecides(t *testing.T) {
	t.Parallel()
	s := fleet(t, fixed([]machine.Interface{
		{Index: 1, Name: "corp", Kind: machine.KindEthernet, Up: true, Addresses: []machine.Address{address("10.0.0.2/8"), address("fd00::2/32")}},
		{Index: 2, Name: "home", Kind: machine.KindWiFi, Up: true, Addresses: []machine.Address{address("10.1.0.2/16")}},
		{Index: 3, Name: "docker0", Kind: machine.KindVirtual, Up: true, Addresses: []machine.Address{address("10.1.7.1/24"), address("fd00:0:7::1/64")}},
		{Index: 4, Name: "wide", Kind: machine.KindVirtual, Up: true, Addresses: []machine.Address{address("10.0.9.1/6"), address("10.1.255.1/16")}},
	}), "corp", "home")
	v, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]Place{
		"10.9.9.9":   {Lines: 1 << 0},
		"10.1.9.9":   {Lines: 1 << 1}, // wide, which is no uplink, has the same network
		"10.1.7.9":   {Direct: true},  // the containers' network lies within both lines'
		"11.9.9.9":   {Direct: true},
		"fd00::9":    {Lines: 1 << 0},
		"fd00:0:7::": {Direct: true},
		"192.0.2.1":  {},
	} {
		if got := v.Place(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Place(%s) = %+v, want %+v", addr, got, want)
		}
	}
}

func TestViewFollowsTheMachine(t *testing.T) {
	t.Parallel()
	m, reads := laptop(), 0
	s := fleet(t, func() ([]machine.Interface, error) { reads++; return m, nil }, "eth0")
	source := func() string {
		v, err := s.View()
		if err != nil {
			t.Fatal(err)
		}
		return v.Bindings[0].Source(IPv4).String()
	}
	if got := source(); got != "198.51.100.2" {
		t.Fatalf("source %s", got)
	}
	if source(); reads != 1 {
		t.Errorf("a fresh reading was not used again: %d readings", reads)
	}
	m = laptop()
	m[1].Addresses = []machine.Address{address("198.51.100.200/24")}
	s.Invalidate()
	if got := source(); got != "198.51.100.200" {
		t.Errorf("after the address changed: source %s", got)
	}
	m = m[:1]
	s.Invalidate()
	v, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	if v.Bindings[0].Families != 0 || v.Bindings[0].Problem != "the interface is gone" {
		t.Errorf("after the interface went: %+v", v.Bindings[0])
	}
}

func TestOvertakeDelay(t *testing.T) {
	t.Parallel()
	var c connectTimes
	if d := c.overtakeDelay(); d != minOvertake {
		t.Errorf("of a line nothing is known of: %s", d)
	}
	for range 20 {
		c.observe(20 * time.Millisecond)
	}
	if d := c.overtakeDelay(); d != minOvertake {
		t.Errorf("of a fast line: %s", d)
	}
	// A satellite line is overtaken at first; what it had taken by then must lengthen the delay until it can win.
	var slow connectTimes
	for range 5 {
		slow.observe(min(600*time.Millisecond, slow.overtakeDelay()+30*time.Millisecond))
	}
	if d := slow.overtakeDelay(); d <= 600*time.Millisecond {
		t.Errorf("a line of 600 ms would be overtaken for ever, after %s", d)
	}
	for range 20 {
		c.observe(30 * time.Second)
	}
	if d := c.overtakeDelay(); d != maxOvertake {
		t.Errorf("of a dead line: %s", d)
	}
}

func TestLineIsRouted(t *testing.T) {
	t.Parallel()
	m := laptop()
	m[2].DefaultRoutes = append(m[2].DefaultRoutes, via(IPv6, "fe80::1"))
	v, err := fleet(t, fixed(m), "eth0", "wlan0", "tun0", "203.0.113.7", "usb0").View()
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range []Family{Both, Both, 0, Both, IPv4} {
		if got := v.Bindings[n].Routed; got != want {
			t.Errorf("%s: routed for %s, want %s", v.Bindings[n].Uplink.Name(), got, want)
		}
	}
}
