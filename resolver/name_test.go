package resolver

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// asksNobody fails the test when it is asked.
func asksNobody(t testing.TB) *Resolver {
	return newResolver(t, Config{System: func(_ context.Context, host string) ([]netip.Addr, error) {
		t.Errorf("asked for %q", host)
		return nil, errors.New("nobody is to be asked")
	}})
}

func TestLiterals(t *testing.T) {
	t.Parallel()
	r := asksNobody(t)
	for host, want := range map[string]string{
		"192.0.2.1":                "192.0.2.1",
		"192.0.2.1.":               "192.0.2.1",
		"0.0.0.0":                  "0.0.0.0",
		"2001:DB8::1":              "2001:db8::1",
		"fe80::1%eth0":             "fe80::1%eth0",
		"fe80::1%Wi-Fi 2":          "fe80::1%Wi-Fi 2",
		"::ffff:192.0.2.1":         "192.0.2.1",
		"\uff11\uff19\uff12.0.2.1": "192.0.2.1", // full-width digits
	} {
		wantAddrs(t, r, host, want)
	}
}

func TestLocalhost(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]*Resolver{
		"system": asksNobody(t),
		"asking": asking(t, netip.MustParseAddrPort("127.0.0.1:1")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, host := range []string{"localhost", "LocalHost", "localhost.", "app.localhost", "a.b.LOCALHOST."} {
				wantAddrs(t, r, host, "127.0.0.1", "::1")
			}
		})
	}
}

func TestInvalidNames(t *testing.T) {
	t.Parallel()
	r := asksNobody(t)
	label := strings.Repeat("a", 63)
	long := strings.Join([]string{label, label, label, label[:61]}, ".")
	for _, host := range []string{
		"", ".", "..", ".a", "a..b", "a..", "a b", " a", "a ", "a\x00", "\x00", "a\nb", "a\tb", "\x7f", "a\x1b[0m",
		"a/b", "a@b", `a\b`, `a\.b`, "a%b", "a*b", "[::1]", "a:80", "1.2.3.4:80", "::g", "1::2::3",
		label + "a.test", long + "a", long + "a.", strings.Repeat("a.", 5000),
		"127.1", "1", "1.", "0177.0.0.1", "0x7f.1", "0x7f000001", "0X", "1.2.3.4.5", "256.1.1.1", "a.1",
		"\xff", "b\xc3", "b\u00fccher test", "b\u00fccher\u3002\u3002test", "\u00ad", strings.Repeat("\u00fc", 600),
		strings.Repeat("\u00ad", 600) + "a.test", // soft hyphens, which the conversion drops
		"\u2488com",                              // "1." in one character
	} {
		err := wantError(t, r, host, ErrInvalidName)
		if len(err.Error()) > 2500 {
			t.Errorf("the error about %.20q... has %d bytes", host, len(err.Error()))
		}
	}
}

func TestValidNames(t *testing.T) {
	t.Parallel()
	label := strings.Repeat("a", 63)
	long := strings.Join([]string{label, label, label, label[:61]}, ".")
	for host, want := range map[string]string{
		"Example.COM":                          "example.com",
		"example.com.":                         "example.com",
		"router":                               "router",
		"_dmarc.Example.com":                   "_dmarc.example.com",
		"a_b.test":                             "a_b.test",
		"r3---sn-abc.test":                     "r3---sn-abc.test",
		"-a-.test":                             "-a-.test",
		"1.test":                               "1.test",
		"4.3.2.1.in-addr.arpa":                 "4.3.2.1.in-addr.arpa",
		"0xg":                                  "0xg",
		long:                                   long,
		long + ".":                             long,
		label:                                  label,
		"b\u00fccher.test":                     "xn--bcher-kva.test",
		"B\u00dcCHER.test":                     "xn--bcher-kva.test",
		"stra\u00dfe.test":                     "xn--strae-oqa.test",
		"_srv.b\u00fccher.test":                "_srv.xn--bcher-kva.test",
		"\u4f8b\u3048\u3002\u30c6\u30b9\u30c8": "xn--r8jz45g.xn--zckzah",
		"xn--bcher-kva.test":                   "xn--bcher-kva.test",
	} {
		name, addr, err := parseHost(host)
		if err != nil || addr.IsValid() || name != want {
			t.Errorf("parseHost(%q) = %q, %v, %v; want %q", host, name, addr, err, want)
		}
	}
}

func TestUnicodeIsAskedInASCII(t *testing.T) {
	t.Parallel()
	r := asking(t, startServer(t, records(t, "xn--bcher-kva.test. 60 A 192.0.2.1")))
	wantAddrs(t, r, "B\u00fccher.test", "192.0.2.1")
}

func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"", "a.b", "A.b.", "192.0.2.1", "::1", "fe80::1%a", "0x7f.1", "b\u00fccher.test", "\u3002", "a\x00b", "xn--a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		name, addr, err := parseHost(host)
		switch {
		case err != nil:
			if name != "" || addr.IsValid() || !errors.Is(err, ErrInvalidName) {
				t.Errorf("%q, %v with %v", name, addr, err)
			}
			return
		case addr.IsValid():
			if name != "" || addr.Is4In6() {
				t.Errorf("%q, %v", name, addr)
			}
			return
		}
		if again, _, err := parseHost(name); err != nil || again != name {
			t.Errorf("%q is %q, and that is %q, %v", host, name, again, err)
		}
		if len(name) > maxName || strings.ToLower(name) != name || strings.ContainsAny(name, " \x00\\/:%") {
			t.Errorf("%q is %q", host, name)
		}
		if query, err := newQuery(name, 1, true); err != nil || questionEnd(query) != headerSize+len(name)+2+4 {
			t.Errorf("%q cannot be asked for: %v", name, err)
		}
	})
}
