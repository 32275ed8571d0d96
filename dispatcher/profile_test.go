package dispatcher

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"dispatch/dispatcher/balance"
	"dispatch/dispatcher/uplink"
)

func TestRouteKeepsToTheProfilesLines(t *testing.T) {
	t.Parallel()
	d := New(Config{Fleet: house(t), Resolver: names(map[string][]string{
		"dual": {"192.0.2.1", "2001:db8::1"}, "mixed": {"192.0.2.1", "127.0.0.1"},
	})})
	const four, six = "four=192.0.2.1", "six=2001:db8::1"
	for _, c := range []struct {
		lines      string
		host, want string // lanes, or what the error says
	}{
		{"", "dual", four + " " + six + " both=2001:db8::1,192.0.2.1"},
		{"four six", "dual", four + " " + six},
		{"six", "dual", six},
		{"gone four", "dual", four},
		{"four", "203.0.113.99", `listener "office" may use no line but four: no eligible uplink`}, // a neighbour of both
		{"both", "203.0.113.99", "both=203.0.113.99"},
		{"six", "192.0.2.1", `listener "office" may use no line but six: no eligible uplink`},
		{"gone away", "dual", `listener "office" may use no line but gone, away: no eligible uplink`},
		{"six", "mixed", "direct=127.0.0.1"},
	} {
		route, err := d.Route(t.Context(), &Request{
			Profile: &Profile{Name: "office", Lines: strings.Fields(c.lines)}, Host: c.host, Port: 80,
		})
		if err != nil {
			if !errors.Is(err, ErrNoUplink) || ClassOf(err) != NoUplink || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s by %q: %v, want %s", c.host, c.lines, err, c.want)
			}
			continue
		}
		got, want := strings.Fields(lanesOf(route)), strings.Fields(c.want)
		slices.Sort(got)
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Errorf("%s by %q: lanes %q, want %q", c.host, c.lines, got, want)
		}
	}
}

// A profile names lines that come and go: what takes the place of one is not taken for it.
func TestProfileFollowsTheFleet(t *testing.T) {
	t.Parallel()
	fleet := house(t)
	d := New(Config{Fleet: fleet})
	req := Request{Profile: &Profile{Lines: []string{"four"}}, Host: "192.0.2.1", Port: 80}
	for _, c := range []struct{ fleet, want string }{
		{"four six", "four=192.0.2.1"},
		{"both six", ""},
		{"both six four", "four=192.0.2.1"},
	} {
		specs, err := uplink.ParseSpecs(strings.Fields(c.fleet))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fleet.Apply(specs); err != nil {
			t.Fatal(err)
		}
		route, err := d.Route(t.Context(), &req)
		if c.want == "" {
			if ClassOf(err) != NoUplink {
				t.Errorf("with %q: %v, want no uplink", c.fleet, err)
			}
			continue
		}
		if err != nil || lanesOf(route) != c.want {
			t.Errorf("with %q: %v, want %s", c.fleet, err, c.want)
		}
	}
}

// reversed is a strategy that prefers the last line.
type reversed struct{}

func (reversed) Order(buf []uplink.ID, c balance.Choice) []uplink.ID {
	for id := range c.Lines.All() {
		buf = append(buf, id)
	}
	slices.Reverse(buf)
	return buf
}

func TestRouteUsesTheProfilesStrategy(t *testing.T) {
	t.Parallel()
	d := New(Config{Fleet: house(t)})
	route := func(p *Profile) string {
		r, err := d.Route(t.Context(), &Request{Profile: p, Host: "192.0.2.1", Port: 80})
		if err != nil {
			t.Fatal(err)
		}
		return r.Uplink().Name()
	}
	count := map[string]int{}
	for range 18 {
		if got := route(&Profile{Strategy: reversed{}}); got != "both" {
			t.Errorf("the profile's strategy has both in front, not %s", got)
		}
		count[route(&Profile{Name: "without a strategy"})]++
	}
	// Of the others' rotation of 7:2 the profile's strategy has taken no turn.
	if count["four"] != 14 || count["both"] != 4 {
		t.Errorf("without a strategy of its own a profile gets %v, want 14:4", count)
	}
}
