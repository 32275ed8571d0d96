package uplink

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParseSpec(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr
	for arg, want := range map[string]Spec{
		"eth0":              {Name: "eth0", Weight: 1},
		"eth0@7":            {Name: "eth0", Weight: 7},
		"wlan0/3":           {Name: "wlan0", Weight: 3},
		"Ethernet 2@1000":   {Name: "Ethernet 2", Weight: 1000},
		"br-lan.5@2":        {Name: "br-lan.5", Weight: 2},
		"10.0.0.0/7":        {Addr: addr("10.0.0.0"), Weight: 7},
		"10.0.0.1/3":        {Addr: addr("10.0.0.1"), Weight: 3},
		"192.168.110.101@7": {Addr: addr("192.168.110.101"), Weight: 7},
		"2001:db8::1":       {Addr: addr("2001:db8::1"), Weight: 1},
		"2001:db8::1@4":     {Addr: addr("2001:db8::1"), Weight: 4},
		"[2001:db8::1]/4":   {Addr: addr("2001:db8::1"), Weight: 4},
		"::ffff:192.0.2.9":  {Addr: addr("192.0.2.9"), Weight: 1},
	} {
		if got, err := ParseSpec(arg); err != nil || got != want {
			t.Errorf("ParseSpec(%q) = %+v, %v; want %+v", arg, got, err, want)
		}
	}
}

func TestParseSpecRefuses(t *testing.T) {
	t.Parallel()
	for arg, why := range map[string]string{
		"":                             "before the weight",
		"@3":                           "before the weight",
		" eth0":                        "spaces around",
		"eth0@0":                       "leave the uplink out",
		"eth0@1001":                    "over 1000",
		"eth0@99999999999999999999999": "over 1000",
		"eth0@":                        "not a whole number",
		"eth0@x":                       "not a whole number",
		"eth0@-1":                      "not a whole number",
		"eth0@1.5":                     "not a whole number",
		"eth0@if5":                     "not a whole number",
		"10.0.0.1/24/3":                "neither an address nor",
		"fe80::1%eth0":                 "with a zone",
		"2001:db8::1%eth0@2":           "with a zone",
		"fe80::1":                      "link-local",
		"169.254.3.4":                  "link-local",
		"0.0.0.0":                      "unspecified",
		"::":                           "unspecified",
		"224.0.0.1":                    "multicast",
		"-d":                           "flag",
		"a\x1bb":                       "control character",
	} {
		_, err := ParseSpec(arg)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("ParseSpec(%q): %v; want an error with %q", arg, err, why)
		}
	}
}

func TestParseSpecsRefusesTwins(t *testing.T) {
	t.Parallel()
	if _, err := ParseSpecs([]string{"eth0@2", "wlan0", "eth0/3"}); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("an uplink named twice: %v", err)
	}
}

func FuzzParseSpec(f *testing.F) {
	for _, seed := range []string{"eth0", "eth0@7", "10.0.0.0/7", "[::1]@2", "fe80::1%eth0", "a@b@3", "@", "/", "[", "Ethernet 2/5"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		s, err := ParseSpec(arg)
		if err != nil {
			return
		}
		if s.Weight < 1 || s.Weight > MaxWeight {
			t.Errorf("%q: weight %d", arg, s.Weight)
		}
		if (s.Name == "") != s.Addr.IsValid() {
			t.Errorf("%q: both or neither of name and address: %+v", arg, s)
		}
		again, err := ParseSpec(s.String() + "@9")
		if err != nil || again.Name != s.Name || again.Addr != s.Addr || again.Weight != 9 {
			t.Errorf("%q does not come back: %+v, %v", arg, again, err)
		}
	})
}
