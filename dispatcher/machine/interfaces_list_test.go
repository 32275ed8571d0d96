package machine

import (
	"net/netip"
	"slices"
	"testing"
)

func TestDefaultRoutes(t *testing.T) {
	to := func(prefix, router string, metric int) route {
		r := route{to: netip.MustParsePrefix(prefix), metric: metric}
		if router != "" {
			r.router = netip.MustParseAddr(router)
		}
		return r
	}
	v4 := func(router string, metric int) DefaultRoute {
		return DefaultRoute{Family: IPv4, Router: to("0.0.0.0/0", router, 0).router, Metric: metric}
	}
	v6 := func(router string, metric int) DefaultRoute {
		return DefaultRoute{Family: IPv6, Router: to("0.0.0.0/0", router, 0).router, Metric: metric}
	}
	for _, c := range []struct {
		name string
		in   []route
		want []DefaultRoute
	}{
		{"none", nil, nil},
		{"networks only", []route{to("10.0.0.0/8", "10.0.0.1", 0), to("fd00::/8", "", 0), to("64.0.0.0/2", "", 0)}, nil},
		{"families and metrics in order", []route{
			to("::/0", "fe80::2", 2), to("0.0.0.0/0", "10.0.0.9", 9), to("::/0", "fe80::1", 1), to("0.0.0.0/0", "10.0.0.1", 1),
		}, []DefaultRoute{v4("10.0.0.1", 1), v4("10.0.0.9", 9), v6("fe80::1", 1), v6("fe80::2", 2)}},
		{"each once", []route{to("0.0.0.0/0", "", 1), to("0.0.0.0/0", "10.0.0.1", 1), to("0.0.0.0/0", "", 1)},
			[]DefaultRoute{v4("", 1), v4("10.0.0.1", 1)}},
		{"halves", []route{to("128.0.0.0/1", "10.0.0.2", 3), to("0.0.0.0/1", "10.0.0.1", 2)}, []DefaultRoute{v4("10.0.0.1", 3)}},
		{"the best of each half", []route{
			to("0.0.0.0/1", "10.0.0.9", 9), to("0.0.0.0/1", "10.0.0.1", 2), to("128.0.0.0/1", "", 1), to("128.0.0.0/1", "", 8),
		}, []DefaultRoute{v4("10.0.0.1", 2)}},
		{"halves beside a default route", []route{
			to("128.0.0.0/1", "", 0), to("0.0.0.0/0", "10.0.0.1", 5), to("0.0.0.0/1", "", 0),
		}, []DefaultRoute{v4("", 0), v4("10.0.0.1", 5)}},
		{"a half alone", []route{to("0.0.0.0/1", "", 0), to("::/1", "", 0), to("8000::/1", "", 0)}, []DefaultRoute{v6("", 0)}},
		{"the upper half alone", []route{to("128.0.0.0/1", "", 0), to("8000::/1", "", 0)}, nil},
		{"halves of global unicast", []route{to("2000::/4", "", 0), to("3000::/4", "", 0), to("fc00::/7", "", 0)}, []DefaultRoute{v6("", 0)}},
		{"global unicast", []route{to("2000::/3", "fe80::1", 0)}, []DefaultRoute{v6("fe80::1", 0)}},
		{"parts of global unicast", []route{to("2000::/5", "", 0), to("2800::/5", "", 0), to("3000::/4", "", 0)}, nil},
		{"other space", []route{to("4000::/2", "", 0), to("::/3", "", 0)}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := defaultRoutes(c.in); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// TestInterfacesOfThisMachine holds on any machine and OS.
func TestInterfacesOfThisMachine(t *testing.T) {
	list, err := Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	loopback := false
	for _, i := range list {
		if i.Index <= 0 || i.Name == "" {
			t.Errorf("not an interface: %+v", i)
		}
		for _, a := range i.Addresses {
			if !a.Prefix.IsValid() || a.Prefix.Addr().Is4In6() || a.Prefix.Addr().Zone() != "" {
				t.Errorf("%s has the address %v", i.Name, a)
			}
			if a.Prefix.Addr().IsLoopback() && i.Kind == KindLoopback && i.Up {
				loopback = true
			}
		}
	}
	if !loopback {
		t.Errorf("no loopback interface is up with a loopback address: %+v", list)
	}
}
