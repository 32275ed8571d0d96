package resolver

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseServer(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"1.1.1.1":               "1.1.1.1:53",
		"1.1.1.1:5353":          "1.1.1.1:5353",
		"::1":                   "[::1]:53",
		"[::1]":                 "[::1]:53",
		"[::1]:5353":            "[::1]:5353",
		"::1:53":                "[::1:53]:53", // an address: a port needs the brackets
		"fe80::1%eth0":          "[fe80::1%eth0]:53",
		"[fe80::1%eth0]:54":     "[fe80::1%eth0]:54",
		"::ffff:192.0.2.1":      "192.0.2.1:53",
		"[::ffff:192.0.2.1]:54": "192.0.2.1:54",
	} {
		if got, err := ParseServer(s); err != nil || got.String() != want {
			t.Errorf("ParseServer(%q) = %v, %v; want %s", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", " ", "dns.test", "dns.test:53", "1.1.1", "1.1.1.1:", "1.1.1.1:0", "1.1.1.1:65536", "1.1.1.1:x", ":53", "[1.1.1.1]",
		"[1.1.1.1]:53", "[::1", "::1]", "[::1]53", "0.0.0.0", "::", "[::]:53", "255.255.255.255", "224.0.0.251", "ff02::fb", "tls://1.1.1.1",
		"https://1.1.1.1/dns-query", "1.1.1.1,1.0.0.1", "01.1.1.1",
	} {
		got, err := ParseServer(s)
		if err == nil {
			t.Errorf("ParseServer(%q) = %v", s, got)
			continue
		}
		if text := err.Error(); !strings.Contains(text, strings.Trim(s, "[]")) && s != "" && s != "1.1.1.1:0" {
			t.Errorf("ParseServer(%q): %q does not name it", s, text)
		} else if !strings.Contains(text, "1.1.1.1:5353") && !strings.Contains(text, "leave the port out") {
			t.Errorf("ParseServer(%q): %q does not say what to write", s, text)
		}
	}
}

func TestParseServers(t *testing.T) {
	t.Parallel()
	got, err := ParseServers("1.1.1.1, [::1]:54 ,1.1.1.1:53,1.0.0.1")
	want := []netip.AddrPort{netip.MustParseAddrPort("1.1.1.1:53"), netip.MustParseAddrPort("[::1]:54"), netip.MustParseAddrPort("1.0.0.1:53")}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, list := range []string{"", ",", "1.1.1.1,", ",1.1.1.1", "1.1.1.1,,1.0.0.1", "1.1.1.1 1.0.0.1", "1.1.1.1;1.0.0.1"} {
		if got, err := ParseServers(list); err == nil {
			t.Errorf("ParseServers(%q) = %v", list, got)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	good := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
	for name, c := range map[string]Config{
		"no address":        {Servers: []netip.AddrPort{{}}},
		"port 0":            {Servers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}},
		"unspecified":       {Servers: []netip.AddrPort{netip.MustParseAddrPort("[::]:53")}},
		"negative time-out": {RetryAfter: -1},
		"negative limit":    {Timeout: -time.Second},
		"no hosts file":     {Servers: good, HostsFile: "/nonexistent/hosts"},
		"hosts directory":   {Servers: good, HostsFile: t.TempDir()},
	} {
		if r, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func FuzzParseServer(f *testing.F) {
	for _, s := range []string{"1.1.1.1", "1.1.1.1:5353", "::1", "[::1]:53", "[::1]", "fe80::1%eth0", "tls://1", "[", "::ffff:1.1.1.1", "1.1.1.1,::1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if server, err := ParseServer(s); err == nil {
			if checkServer(server) != nil || server.Addr().Is4In6() {
				t.Errorf("ParseServer(%q) = %v", s, server)
			}
			if again, err := ParseServer(server.String()); err != nil || again != server {
				t.Errorf("ParseServer(%q) = %v, and that is %v, %v", s, server, again, err)
			}
		}
		servers, err := ParseServers(s)
		if (err == nil) != (len(servers) > 0) {
			t.Errorf("ParseServers(%q) = %v, %v", s, servers, err)
		}
	})
}
