package config

import (
	"net/netip"
	"slices"
	"testing"
)

func TestParseListen(t *testing.T) {
	t.Parallel()
	home := netip.MustParseAddr("127.0.0.1")
	for text, want := range map[string]string{
		":1080": "127.0.0.1:1080", "1080": "127.0.0.1:1080", "localhost:1": "127.0.0.1:1", "0.0.0.0:80": "0.0.0.0:80",
		"[::]:80": "[::]:80", "[::1]:0": "[::1]:0", "198.51.100.1:65535": "198.51.100.1:65535",
	} {
		got, err := parseListen("--socks", []string{text}, home)
		if err != nil || !slices.Equal(got, []netip.AddrPort{netip.MustParseAddrPort(want)}) {
			t.Errorf("%q: %v, %v; want %s", text, got, err, want)
		}
	}
	if got, err := parseListen("--socks", []string{off}, home); err != nil || got != nil {
		t.Errorf("off: %v, %v", got, err)
	}
	for _, text := range []string{"", ":", "x", ":-1", ":65536", "*:80", "::1:80", "host:80", "[::1]", "[x]:80", "1.2.3:80"} {
		if got, err := parseListen("--socks", []string{text}, home); err == nil {
			t.Errorf("%q became %v", text, got)
		}
	}
}

func FuzzParseListen(f *testing.F) {
	for _, seed := range []string{":1080", "[::1]:1", "off", "*:1", "localhost:80", "::"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseListen("--socks", []string{text}, netip.MustParseAddr("127.0.0.1"))
		if err == nil && len(got) != 1 && text != off {
			t.Errorf("%q became %v", text, got)
		}
		for _, a := range got {
			if !a.IsValid() {
				t.Errorf("%q became %v", text, a)
			}
		}
	})
}
