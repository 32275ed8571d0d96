package uplink

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func address(prefix string) Address { return Address{Prefix: netip.MustParsePrefix(prefix)} }

func via(f Family, gateway string) DefaultRoute {
	return DefaultRoute{Family: f, Gateway: netip.MustParseAddr(gateway)}
}

// machine is a laptop: Wi-Fi and Ethernet with default routes, a phone's tether that is down, a VPN without a
// default route and a container bridge.
func machine() []Interface {
	old := address("2001:db8:1::aaaa/64")
	old.Deprecated = true
	temporary := address("2001:db8:1::bbbb/64")
	temporary.Temporary = true
	tentative := address("2001:db8:1::cccc/64")
	tentative.Tentative = true
	return []Interface{
		{Index: 1, Name: "lo", Kind: KindLoopback, Up: true, Addresses: []Address{address("127.0.0.1/8"), address("::1/128")}},
		{
			Index: 2, Name: "eth0", Kind: KindEthernet, Up: true,
			Addresses: []Address{
				address("169.254.9.9/16"), address("198.51.100.2/24"), address("fe80::2/64"), old, tentative,
				address("fd00::2/64"), address("2001:db8:1::2/64"), temporary,
			},
			DefaultRoutes: []DefaultRoute{via(IPv4, "198.51.100.1"), via(IPv6, "fe80::1")},
		},
		{
			Index: 3, Name: "wlan0", Kind: KindWiFi, Up: true,
			Addresses:     []Address{address("203.0.113.7/24"), address("fd01::7/64"), address("fe80::7/64")},
			DefaultRoutes: []DefaultRoute{via(IPv4, "203.0.113.1")},
		},
		{Index: 4, Name: "usb0", Kind: KindEthernet, Addresses: []Address{address("198.18.4.2/24")}, DefaultRoutes: []DefaultRoute{via(IPv4, "198.18.4.1")}},
		{Index: 5, Name: "tun0", Kind: KindTunnel, Up: true, Addresses: []Address{address("198.18.5.2/24")}},
		{Index: 6, Name: "docker0", Kind: KindVirtual, Up: true, Addresses: []Address{address("172.17.0.1/16")}},
		{Index: 7, Name: "only6", Kind: KindEthernet, Up: true, Addresses: []Address{address("fe80::9/64")}},
	}
}

func set(t *testing.T, list func() ([]Interface, error), args ...string) *Set {
	t.Helper()
	specs, err := ParseSpecs(args)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSet(&Table{List: list}, specs)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fixed(interfaces []Interface) func() ([]Interface, error) {
	return func() ([]Interface, error) { return interfaces, nil }
}

func TestSource(t *testing.T) {
	t.Parallel()
	m := machine()
	for _, c := range []struct {
		n    int
		f    Family
		want string
	}{
		{1, IPv4, "198.51.100.2"},     // not the link-local one
		{1, IPv6, "2001:db8:1::bbbb"}, // temporary over permanent, global over ULA; neither deprecated nor tentative
		{2, IPv4, "203.0.113.7"},
		{2, IPv6, "invalid IP"}, // a ULA without a default route reaches nothing
		{6, IPv6, "invalid IP"},
	} {
		if got := m[c.n].Source(c.f); got.String() != c.want {
			t.Errorf("%s %s: source %s, want %s", m[c.n].Name, c.f, got, c.want)
		}
	}
	m[2].DefaultRoutes = append(m[2].DefaultRoutes, via(IPv6, "fe80::1"))
	if got := m[2].Source(IPv6); got != netip.MustParseAddr("fd01::7") {
		t.Errorf("a ULA with a default route: %s", got)
	}
}

func TestAutomatic(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"lo": "loopback", "eth0": "", "wlan0": "", "usb0": "down", "tun0": "no default route",
		"docker0": "no default route", "only6": "only link-local addresses",
	}
	for _, c := range Automatic(machine()) {
		if c.Reason != want[c.Interface.Name] || c.Use != (c.Reason == "") {
			t.Errorf("%s: use %t, reason %q; want %q", c.Interface.Name, c.Use, c.Reason, want[c.Interface.Name])
		}
	}
	// Without any default route, a usable address is enough.
	m := machine()
	m[1].DefaultRoutes, m[2].DefaultRoutes = nil, nil
	used := ""
	for _, c := range Automatic(m) {
		if c.Use {
			used += c.Interface.Name + " "
		}
	}
	if used != "eth0 wlan0 tun0 docker0 " {
		t.Errorf("without default routes start would use %q", used)
	}
}

func TestNewSetRefusesWhatIsNotThere(t *testing.T) {
	t.Parallel()
	for _, arg := range []string{"eth9", "198.51.100.99"} {
		spec, err := ParseSpec(arg)
		if err != nil {
			t.Fatal(err)
		}
		_, err = NewSet(&Table{List: fixed(machine())}, []Spec{spec})
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
	if _, err := NewSet(&Table{List: fixed(machine())}, nil); err == nil {
		t.Error("a set without uplinks was made")
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	s := set(t, fixed(machine()), "eth0", "wlan0@3", "usb0", "203.0.113.7", "fd01::7", "only6", "2001:db8:1::aaaa")
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
		l := v.Lines[n]
		if l.Device != want.device || l.Problem != want.problem || l.Families != want.families {
			t.Errorf("line %d: %s, %q, %s; want %+v", n, l.Device, l.Problem, l.Families, want)
		}
	}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	s := set(t, fixed(machine()), "eth0", "wlan0")
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
	s := set(t, fixed([]Interface{
		{Index: 1, Name: "corp", Kind: KindEthernet, Up: true, Addresses: []Address{address("10.0.0.2/8"), address("fd00::2/32")}},
		{Index: 2, Name: "home", Kind: KindWiFi, Up: true, Addresses: []Address{address("10.1.0.2/16")}},
		{Index: 3, Name: "docker0", Kind: KindVirtual, Up: true, Addresses: []Address{address("10.1.7.1/24"), address("fd00:0:7::1/64")}},
		{Index: 4, Name: "wide", Kind: KindVirtual, Up: true, Addresses: []Address{address("10.0.9.1/6"), address("10.1.255.1/16")}},
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
	m, reads := machine(), 0
	s := set(t, func() ([]Interface, error) { reads++; return m, nil }, "eth0")
	source := func() string {
		v, err := s.View()
		if err != nil {
			t.Fatal(err)
		}
		return v.Lines[0].Source(IPv4).String()
	}
	if got := source(); got != "198.51.100.2" {
		t.Fatalf("source %s", got)
	}
	if source(); reads != 1 {
		t.Errorf("a fresh reading was not used again: %d readings", reads)
	}
	m = machine()
	m[1].Addresses = []Address{address("198.51.100.200/24")}
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
	if v.Lines[0].Families != 0 || v.Lines[0].Problem != "the interface is gone" {
		t.Errorf("after the interface went: %+v", v.Lines[0])
	}
}

func TestTableReportsFailure(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	table := Table{List: func() ([]Interface, error) { return nil, boom }}
	if _, err := table.Interfaces(); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
}

// When the kernel cannot be asked any more, what it said last stands: dials go on, and do not ask it each.
func TestLastReadingServesWhenTheKernelCannotBeAsked(t *testing.T) {
	t.Parallel()
	reads, broken := 0, false
	s := set(t, func() ([]Interface, error) {
		reads++
		if broken {
			return nil, errors.New("boom")
		}
		return machine(), nil
	}, "eth0")
	broken = true
	s.Invalidate()
	for range 3 {
		v, err := s.View()
		if err != nil || v.Lines[0].Source(IPv4) != netip.MustParseAddr("198.51.100.2") {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	if reads != 2 {
		t.Errorf("%d readings, want the first and one that failed", reads)
	}
	if _, err := s.table.renew(); err == nil {
		t.Error("who watches the interfaces is not told that they cannot be read")
	}
	broken = false
	before := s.table.current.Load()
	before.extended.Store(0) // as after a second
	if _, err := s.View(); err != nil || s.table.current.Load() == before {
		t.Errorf("once the kernel can be asked again, it is not: %v", err)
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
