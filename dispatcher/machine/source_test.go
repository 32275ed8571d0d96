package machine

import (
	"errors"
	"net/netip"
	"testing"
)

func TestSource(t *testing.T) {
	t.Parallel()
	old, temporary, tentative := address("2001:db8:1::aaaa/64"), address("2001:db8:1::bbbb/64"), address("2001:db8:1::cccc/64")
	old.Deprecated, temporary.Temporary, tentative.Tentative = true, true, true
	routed := []DefaultRoute{{Family: IPv6, Router: netip.MustParseAddr("fe80::1")}}
	for name, c := range map[string]struct {
		addresses []Address
		routes    []DefaultRoute
		want      map[Family]string
	}{
		"temporary over permanent, global over ULA; neither deprecated nor tentative": {
			[]Address{
				address("169.254.9.9/16"), address("198.51.100.2/24"), address("fe80::2/64"), old, tentative,
				address("fd00::2/64"), address("2001:db8:1::2/64"), temporary,
			}, routed, map[Family]string{IPv4: "198.51.100.2", IPv6: "2001:db8:1::bbbb"},
		},
		"a ULA without a default route reaches nothing": {
			[]Address{address("203.0.113.7/24"), address("fd01::7/64"), address("fe80::7/64")}, nil,
			map[Family]string{IPv4: "203.0.113.7", IPv6: "invalid IP"},
		},
		"a ULA with one":  {[]Address{address("fd01::7/64")}, routed, map[Family]string{IPv4: "invalid IP", IPv6: "fd01::7"}},
		"link-local only": {[]Address{address("fe80::9/64")}, routed, map[Family]string{IPv4: "invalid IP", IPv6: "invalid IP"}},
	} {
		i := Interface{Name: "eth0", Up: true, Addresses: c.addresses, DefaultRoutes: c.routes}
		for f, want := range c.want {
			if got := i.Source(f); got.String() != want {
				t.Errorf("%s: %s source %s, want %s", name, f, got, want)
			}
		}
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
	table := &Table{List: func() ([]Interface, error) {
		reads++
		if broken {
			return nil, errors.New("boom")
		}
		return []Interface{{Name: "eth0"}}, nil
	}}
	if _, err := table.Read(); err != nil {
		t.Fatal(err)
	}
	broken = true
	table.Invalidate()
	for range 3 {
		r, err := table.Read()
		if err != nil || r.Interfaces[0].Name != "eth0" {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	if reads != 2 {
		t.Errorf("%d readings, want the first and one that failed", reads)
	}
	if _, err := table.renew(); err == nil {
		t.Error("who watches the interfaces is not told that they cannot be read")
	}
	broken = false
	before := table.current.Load()
	before.extended.Store(0) // as after a second
	if _, err := table.Read(); err != nil || table.current.Load() == before {
		t.Errorf("once the kernel can be asked again, it is not: %v", err)
	}
}
