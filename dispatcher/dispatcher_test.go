package dispatcher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/policy"
	"dispatch/dispatcher/uplink"
	"dispatch/resolver"
	"dispatch/testdata/loopback"
)

func destinations(addrs ...string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range addrs {
		out = append(out, netip.AddrPortFrom(netip.MustParseAddr(a), 80))
	}
	return out
}

// house is a machine with loopback, three lines of documentation addresses and a network of containers, none of which
// anything here ever dials.
func house(t *testing.T) *uplink.Fleet {
	t.Helper()
	prefix := func(s string) machine.Address { return machine.Address{Prefix: netip.MustParsePrefix(s)} }
	table := &machine.Table{List: func() ([]machine.Interface, error) {
		return []machine.Interface{
			{Index: 1, Name: "lo", Kind: machine.KindLoopback, Up: true, Addresses: []machine.Address{prefix("127.0.0.1/8"), prefix("::1/128")}},
			{Index: 2, Name: "four", Up: true, Addresses: []machine.Address{prefix("198.51.100.2/24")}},
			{Index: 3, Name: "six", Up: true, Addresses: []machine.Address{prefix("2001:db8:6::2/64")}},
			{Index: 4, Name: "both", Up: true, Addresses: []machine.Address{prefix("203.0.113.2/24"), prefix("2001:db8:b::2/64")}},
			{Index: 5, Name: "docker0", Up: true, Addresses: []machine.Address{prefix("172.17.0.1/16"), prefix("fd00:17::1/64")}},
		}, nil
	}}
	specs, err := uplink.ParseSpecs([]string{"four@7", "six@3", "both@2"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := uplink.NewFleet(table, specs)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// names is a resolver with a fixed zone.
func names(zone map[string][]string) Resolver {
	return ResolverFunc(func(_ context.Context, host string) ([]netip.Addr, error) {
		var out []netip.Addr
		for _, a := range zone[host] {
			out = append(out, netip.MustParseAddr(a))
		}
		return out, nil
	})
}

func lanesOf(r *Route) string {
	var out []string
	for _, l := range r.lanes {
		var d []string
		for _, dst := range l.destinations {
			d = append(d, dst.Addr().String())
		}
		out = append(out, lineName(l.uplink)+"="+strings.Join(d, ","))
	}
	return strings.Join(out, " ")
}

func TestRoutePairsFamilies(t *testing.T) {
	t.Parallel()
	d := New(Config{Fleet: house(t), Resolver: names(map[string][]string{
		"v4":    {"192.0.2.1", "192.0.2.2"},
		"v6":    {"2001:db8::1"},
		"dual":  {"192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2"},
		"local": {"127.0.0.1"},
		"mixed": {"192.0.2.1", "127.0.0.1"},
		"near":  {"203.0.113.99", "2001:db8:b::99"},
	})})
	for _, c := range []struct{ host, want string }{
		{"v4", "four=192.0.2.1,192.0.2.2 both=192.0.2.1,192.0.2.2"},
		{"v6", "six=2001:db8::1 both=2001:db8::1"},
		// All addresses count, not only the first; IPv6 first where the uplink has both.
		{"dual", "four=192.0.2.1,192.0.2.2 six=2001:db8::1,2001:db8::2 both=2001:db8::1,192.0.2.1,2001:db8::2,192.0.2.2"},
		{"local", "direct=127.0.0.1"},
		{"mixed", "direct=127.0.0.1 four=192.0.2.1 both=192.0.2.1"},
		{"near", "both=2001:db8:b::99,203.0.113.99"}, // its neighbour: no other line leads there
		{"192.0.2.9", "four=192.0.2.9 both=192.0.2.9"},
		{"::ffff:192.0.2.9", "both=192.0.2.9 four=192.0.2.9"}, // the second pick of a rotation of IPv4
	} {
		route, err := d.Route(t.Context(), &Request{Host: c.host, Port: 80})
		if err != nil {
			t.Errorf("%s: %v", c.host, err)
			continue
		}
		want, got := strings.Fields(c.want), strings.Fields(lanesOf(route))
		for _, lane := range want {
			if !strings.Contains(" "+strings.Join(got, " ")+" ", " "+lane+" ") {
				t.Errorf("%s: lanes %v lack %s", c.host, got, lane)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: lanes %v, want %v", c.host, got, want)
		}
	}
}

// With 7:3 over a line of IPv4 and one of IPv6, a name with both is spread 7:3.
func TestRouteSpreadsDualStackNamesOverBothFamilies(t *testing.T) {
	t.Parallel()
	d := New(Config{Fleet: house(t), Resolver: names(map[string][]string{"dual": {"192.0.2.1", "2001:db8::1"}})})
	count := map[string]int{}
	for range 120 {
		route, err := d.Route(t.Context(), &Request{Host: "dual", Port: 80})
		if err != nil {
			t.Fatal(err)
		}
		count[route.Uplink().Name()]++
	}
	if count["four"] != 70 || count["six"] != 30 || count["both"] != 20 {
		t.Errorf("spread %v, want 70:30:20", count)
	}
}

func TestRouteErrors(t *testing.T) {
	t.Parallel()
	late := ResolverFunc(func(context.Context, string) ([]netip.Addr, error) { return nil, context.DeadlineExceeded })
	broken := ResolverFunc(func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("broken") })
	system, err := resolver.New(resolver.Config{System: func(_ context.Context, host string) ([]netip.Addr, error) {
		return nil, &net.DNSError{Err: host, IsNotFound: host == "nowhere", IsTimeout: host == "late"}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = system.Close() })
	only := func(name string) *uplink.Fleet {
		one, err := uplink.NewFleet(&machine.Table{List: func() ([]machine.Interface, error) {
			return []machine.Interface{{Index: 2, Name: name, Up: true, Addresses: []machine.Address{{Prefix: netip.MustParsePrefix("198.51.100.2/24")}}}}, nil
		}}, []uplink.Spec{{Name: name, Weight: 1}})
		if err != nil {
			t.Fatal(err)
		}
		return one
	}
	for _, c := range []struct {
		what     string
		fleet    *uplink.Fleet
		resolver Resolver
		req      Request
		class    Class
		step     Step
		text     string
	}{
		{"empty host", house(t), nil, Request{Port: 80}, InvalidRequest, StepCheck, "empty"},
		{"NUL", house(t), nil, Request{Host: "a\x00b", Port: 80}, InvalidRequest, StepCheck, "control character"},
		{"zone of none", house(t), nil, Request{Host: "::%lo", Port: 80}, InvalidRequest, StepCheck, "zone"},
		{"zone of loopback", house(t), nil, Request{Host: "::1%lo", Port: 80}, InvalidRequest, StepCheck, "zone"},
		{"zone with a control", house(t), nil, Request{Host: "fe80::1%a\x1b", Port: 80}, InvalidRequest, StepCheck, "control character"},
		{"port 0", house(t), nil, Request{Host: "192.0.2.1"}, InvalidRequest, StepCheck, "port 0"},
		{"long", house(t), nil, Request{Host: strings.Repeat("a", 255), Port: 1}, InvalidRequest, StepCheck, "255 characters"},
		{"no address", house(t), names(nil), Request{Host: "nowhere", Port: 80}, UnknownHost, StepResolve, "no address"},
		{"unknown", house(t), system, Request{Host: "nowhere", Port: 80}, UnknownHost, StepResolve, "does not exist"},
		{"no name", house(t), system, Request{Host: "no..name", Port: 80}, UnknownHost, StepResolve, "empty label"},
		{"system late", house(t), system, Request{Host: "late", Port: 80}, ResolveTimedOut, StepResolve, ""},
		{"system broken", house(t), system, Request{Host: "broken", Port: 80}, ResolveFailed, StepResolve, "broken"},
		{"resolver late", house(t), late, Request{Host: "late", Port: 80}, ResolveTimedOut, StepResolve, ""},
		{"resolver broken", house(t), broken, Request{Host: "broken", Port: 80}, ResolveFailed, StepResolve, "broken"},
		{"unspecified", house(t), nil, Request{Host: "0.0.0.0", Port: 80}, NotAllowed, StepChoose, "gateway itself"},
		{"no family", only("four"), nil, Request{Host: "2001:db8::1", Port: 80}, NoUplink, StepChoose, "the host has ipv6 addresses, the uplinks have ipv4"},
	} {
		_, err := New(Config{Fleet: c.fleet, Resolver: c.resolver}).Route(t.Context(), &c.req)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Class != c.class || e.Step != c.step || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v; want %s at %s with %q", c.what, err, c.class, c.step, c.text)
		}
	}
}

func TestProtectRefusesLoops(t *testing.T) {
	t.Parallel()
	var p policy.Local
	p.Protect(netip.MustParseAddrPort("127.0.0.1:1080"))
	p.Protect(netip.MustParseAddrPort("[::]:8080"))
	p.Protect(netip.MustParseAddrPort("[::1]:1082"))
	d := New(Config{Fleet: house(t), Policy: &p, Resolver: names(map[string][]string{"zoned": {"::1%lo"}})})
	for target, refused := range map[string]bool{
		"127.0.0.1:1080": true, "127.0.0.1:1081": false, "127.0.0.2:1080": false,
		"[::1]:8080": true, "198.51.100.2:8080": true, "127.0.0.1:8080": true, "192.0.2.1:8080": false,
		"[::1]:1082": true, "zoned:1082": true,
	} {
		host, port, err := net.SplitHostPort(target)
		if err != nil {
			t.Fatal(err)
		}
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.Route(t.Context(), &Request{Host: host, Port: uint16(number)})
		if errors.Is(err, ErrNotAllowed) != refused {
			t.Errorf("%s: %v, want refused %t", target, err, refused)
		}
	}
}

// The machine's own services, and what it reaches without an uplink, are for its own programs.
func TestRemoteClientsStayOutside(t *testing.T) {
	t.Parallel()
	d := New(Config{Fleet: house(t), Resolver: names(map[string][]string{
		"inside": {"127.0.0.1", "198.51.100.2"}, "container": {"172.17.0.2"}, "public": {"192.0.2.1"},
	})})
	for client, here := range map[string]bool{
		"127.0.0.1:5": true, "[::1]:5": true, "198.51.100.2:5": true, "172.17.0.1:5": true,
		"198.51.100.9:5": false, "[2001:db8:6::9]:5": false, "[::ffff:198.51.100.9]:5": false, "172.17.0.2:5": false,
	} {
		for host, inside := range map[string]bool{
			"127.0.0.1": true, "127.8.8.8": true, "::1": true, "::ffff:127.0.0.1": true, "169.254.169.254": true, "fe80::1%lo": true, "inside": true,
			"198.51.100.2": true, "203.0.113.2": true, "172.17.0.1": true, "::ffff:203.0.113.2": true, "2001:db8:6::2": true, "fd00:17::1": true,
			"172.17.0.2": true, "fd00:17::2": true, "container": true,
			"192.0.2.1": false, "198.51.100.7": false, "2001:db8::1": false, "public": false,
		} {
			_, err := d.Route(t.Context(), &Request{Host: host, Port: 80, Client: netip.MustParseAddrPort(client)})
			if refused := errors.Is(err, ErrNotAllowed); refused != (inside && !here) || !refused && err != nil {
				t.Errorf("%s asks for %s: %v", client, host, err)
			}
		}
	}
}

// Of a name's addresses those that are not allowed are left out.
func TestForbiddenAddressesOfANameAreLeftOut(t *testing.T) {
	t.Parallel()
	var p policy.Local
	p.Protect(netip.MustParseAddrPort("127.0.0.1:80"))
	d := New(Config{Fleet: house(t), Policy: &p, Resolver: names(map[string][]string{
		"mixed": {"127.0.0.1", "2001:db8::1", "172.17.0.2", "192.0.2.1", "203.0.113.2"}, "self": {"0.0.0.0", "127.0.0.1"},
	})})
	for client, want := range map[string][]string{
		"198.51.100.9:5": {"four=192.0.2.1", "six=2001:db8::1", "both=2001:db8::1,192.0.2.1"},
		"127.0.0.1:5":    {"direct=172.17.0.2,203.0.113.2", "four=192.0.2.1", "six=2001:db8::1", "both=2001:db8::1,192.0.2.1"},
	} {
		route, err := d.Route(t.Context(), &Request{Host: "mixed", Port: 80, Client: netip.MustParseAddrPort(client)})
		if err != nil {
			t.Errorf("%s: %v", client, err)
			continue
		}
		got := strings.Fields(lanesOf(route))
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: lanes %v, want %v", client, got, want)
		}
		_, err = d.Route(t.Context(), &Request{Host: "self", Port: 80, Client: netip.MustParseAddrPort(client)})
		if ClassOf(err) != NotAllowed || !strings.Contains(err.Error(), "0.0.0.0:80 is the gateway itself") {
			t.Errorf("%s: a name with none left: %v", client, err)
		}
	}
}

func TestDialCountsOneSessionAndWritesOneRecord(t *testing.T) {
	t.Parallel()
	var records bytes.Buffer
	d := New(Config{Fleet: house(t), Logger: slog.New(slog.NewJSONHandler(&records, nil))})
	server := loopback.Serve(t, loopback.Echo)
	conn, err := d.Dial(t.Context(), Request{Profile: &Profile{Name: "socks test"}, Protocol: "socks5", User: "eve", Host: "127.0.0.1", Port: server.Port()})
	if err != nil {
		t.Fatal(err)
	}
	if s := d.Snapshot(); s.All.Live != 1 || s.All.Total != 1 {
		t.Errorf("while it lives: %+v", s.All)
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	live := d.Snapshot()
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	conn.owned.End(errors.New("late")) // only the first end counts
	s := d.Snapshot()
	want := Account{Total: 1, Up: 5, Down: 5}
	if s.All != want {
		t.Errorf("afterwards: %+v, want %+v", s.All, want)
	}
	if want.Live = 1; live.All != want {
		t.Errorf("counts are not live: %+v, want %+v", live.All, want)
	}
	last := s.Uplinks[len(s.Uplinks)-1]
	if last.Name != Direct || last.Total != 1 || s.Listeners[0].Name != "socks test" {
		t.Errorf("accounts %+v, %+v", s.Uplinks, s.Listeners)
	}
	if n := strings.Count(records.String(), "session closed"); n != 1 {
		t.Fatalf("%d records:\n%s", n, records.String())
	}
	var record map[string]any
	if err := json.Unmarshal(records.Bytes(), &record); err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]any{
		"listener": "socks test", "protocol": "socks5", "user": "eve", "host": "127.0.0.1", "uplink": "direct",
		"destination": server.String(), "up": 5.0, "down": 5.0, "attempts": 1.0, "class": "",
	} {
		if record[key] != value {
			t.Errorf("record has %s=%v, want %v", key, record[key], value)
		}
	}
}

func TestDialFailureIsCountedAndClassed(t *testing.T) {
	t.Parallel()
	var records bytes.Buffer
	d := New(Config{Fleet: house(t), Logger: slog.New(slog.NewJSONHandler(&records, nil))})
	_, err := d.Dial(t.Context(), Request{Profile: &Profile{Name: "http test"}, Host: "127.0.0.1", Port: loopback.Refusing(t).Port()})
	if ClassOf(err) != Refused {
		t.Errorf("class %q of %v", ClassOf(err), err)
	}
	if s := d.Snapshot(); s.All != (Account{Total: 1, Failed: 1}) {
		t.Errorf("accounts %+v", s)
	}
	if !strings.Contains(records.String(), `"class":"refused"`) {
		t.Errorf("records:\n%s", records.String())
	}
}

func TestDialStopsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := New(Config{Fleet: house(t)}).Dial(ctx, Request{Host: "127.0.0.1", Port: 9})
	if c := ClassOf(err); c != Canceled {
		t.Errorf("class %q of %v", c, err)
	}
}
