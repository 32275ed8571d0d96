package doctor_test

import (
	"strings"
	"testing"

	"dispatch/dispatcher/doctor"
)

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]string{
		"example.com:443":      "example.com:443",
		"192.0.2.1:80":         "192.0.2.1:80",
		"[2001:db8::1]:443":    "[2001:db8::1]:443",
		"example.com":          "not HOST:PORT",
		"2001:db8::1:443":      "not HOST:PORT",
		":443":                 "needs a host",
		"example.com:0":        "a port from 1",
		"example.com:65536":    "a port from 1",
		"example.com:https":    "a port from 1",
		"https://example.com/": "example.com",
	} {
		target, err := doctor.ParseTarget(text)
		if err != nil {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v, not %q", text, err, want)
			}
			continue
		}
		if target.String() != want {
			t.Errorf("%q: %v", text, target)
		}
	}
}

func TestFindAddr(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.7\n":                                "192.0.2.7",
		"192.0.2.7:4711\n":                           "192.0.2.7",
		"[2001:db8::7]:4711":                         "2001:db8::7",
		"2001:db8::7":                                "2001:db8::7",
		`{"origin": "192.0.2.7, 198.51.100.1"}`:      "192.0.2.7",
		`{"ip":"2001:db8::7","port":1}`:              "2001:db8::7",
		"<b>Your address: 192.0.2.7.</b>":            "192.0.2.7",
		"ip=::ffff:192.0.2.7 ts=1700000000.5":        "192.0.2.7",
		"version 1.2.3: face it, ":                   "invalid IP",
		"":                                           "invalid IP",
		"fl=12 h=example.com ip:192.0.2.7 ts=17.000": "192.0.2.7",
	} {
		if got := doctor.FindAddr(text); got.String() != want {
			t.Errorf("%q: %v, not %s", text, got, want)
		}
	}
}

func FuzzFindAddr(f *testing.F) {
	f.Add(`{"origin": "192.0.2.7"}`)
	f.Add("[2001:db8::7]:4711")
	f.Add("ip=::ffff:192.0.2.7.")
	f.Fuzz(func(t *testing.T, text string) {
		if a := doctor.FindAddr(text); a.IsValid() && (a.Zone() != "" || a.Is4In6()) {
			t.Errorf("%q: %v", text, a)
		}
	})
}

func FuzzParseTarget(f *testing.F) {
	f.Add("example.com:443")
	f.Add("[2001:db8::1]:443")
	f.Fuzz(func(t *testing.T, text string) {
		target, err := doctor.ParseTarget(text)
		if err != nil {
			return
		}
		again, err := doctor.ParseTarget(target.String())
		if err != nil || again != target {
			t.Errorf("%q: %v, then %v, %v", text, target, again, err)
		}
	})
}
