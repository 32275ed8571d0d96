package netlab

import (
	"net/netip"
	"strings"
	"testing"
)

func TestZeroConfigIsThreeLines(t *testing.T) {
	uplinks, err := Config{}.complete()
	if err != nil {
		t.Fatal(err)
	}
	want := []struct{ name, v4, gw4, v6, gw6 string }{
		{"wan1", "198.51.100.2/24", "198.51.100.1", "2001:db8:1::2/64", "2001:db8:1::1"},
		{"wan2", "203.0.113.2/24", "203.0.113.1", "2001:db8:2::2/64", "2001:db8:2::1"},
		{"wan3", "100.64.2.2/24", "100.64.2.1", "2001:db8:3::2/64", "2001:db8:3::1"},
	}
	if len(uplinks) != len(want) {
		t.Fatalf("%d uplinks, want %d", len(uplinks), len(want))
	}
	for i, w := range want {
		u := uplinks[i]
		got := []string{u.Name, u.IPv4.String(), u.Gateway4.String(), u.IPv6.String(), u.Gateway6.String()}
		if strings.Join(got, " ") != strings.Join([]string{w.name, w.v4, w.gw4, w.v6, w.gw6}, " ") {
			t.Errorf("uplink %d is %v, want %v", i, got, w)
		}
		if u.Metric != 100*(i+1) || u.MTU != 1500 || u.RPFilter != 2 {
			t.Errorf("uplink %d: metric %d, MTU %d, rp_filter %d", i, u.Metric, u.MTU, u.RPFilter)
		}
	}
}

func TestConfigThatMakesNoNetworkIsRefused(t *testing.T) {
	p := netip.MustParsePrefix
	for want, uplinks := range map[string][]Uplink{
		"at most 15 bytes":         {{Name: "a-name-of-16-byte"}},
		"left out":                 {{NoIPv4: true, IPv4: p("198.51.100.2/24")}},
		"family is the other one":  {{IPv4: p("2001:db8:1::2/64")}},
		"is the gateway's":         {{IPv4: p("198.51.100.1/24")}},
		"is not in":                {{Gateway4: netip.MustParseAddr("203.0.113.1")}},
		"nor link-local":           {{Gateway6: netip.MustParseAddr("2001:db8:9::1")}},
		"rp_filter 3":              {{RPFilter: 3}},
		"no prefix":                {{Extra: []Addr{{}}}},
		"only IPv6 addresses":      {{Extra: []Addr{{Prefix: p("198.51.100.3/24"), Tentative: true}}}},
		"need a /64":               {{Extra: []Addr{{Prefix: p("2001:db8:1::3/80"), Temporary: true}}}},
		`both are named "x"`:       {{Name: "x"}, {Name: "x"}},
		"both have metric 7":       {{Metric: 7}, {Metric: 7}},
		"198.51.0.2/16 and 198.51": {{IPv4: p("198.51.0.2/16")}, {IPv4: p("198.51.100.2/24")}},
		"2001:db8::2/32 and 2001":  {{IPv6: p("2001:db8::2/32")}, {}},
		"ends at 200":              make([]Uplink, 201),
	} {
		if _, err := (Config{Uplinks: uplinks}).complete(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
}

func TestReadPeer(t *testing.T) {
	for text, want := range map[string]string{
		"198.51.100.2:42\n":          "198.51.100.2:42",
		"[::ffff:198.51.100.2]:42\n": "198.51.100.2:42",
		"[2001:db8:1::2]:42\n":       "[2001:db8:1::2]:42",
	} {
		if got, err := ReadPeer(strings.NewReader(text)); err != nil || got.String() != want {
			t.Errorf("%q: %v, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "198.51.100.2:42", "198.51.100.2\n", strings.Repeat("1", 300) + "\n"} {
		if got, err := ReadPeer(strings.NewReader(text)); err == nil {
			t.Errorf("%q: %v, want an error", text, got)
		}
	}
}
