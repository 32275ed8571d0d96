package health

import (
	"strings"
	"testing"
)

func TestParseProbe(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"tcp://example.test:443", "tcp://192.0.2.1:53", "tcp://[2001:db8::1]:53", "http://example.test", "http://example.test/generate_204",
		"http://example.test:8080/x?y=z", "http://example.test/x#204", "http://[2001:db8::1]/",
	} {
		if p, err := ParseProbe(text); err != nil || p.String() != text {
			t.Errorf("%s: %v, %v", text, p, err)
		}
	}
	for text, want := range map[string]string{
		"":                              "neither",
		"example.test":                  "neither",
		"example.test:443":              "",
		"https://example.test/":         "neither",
		"tcp://example.test":            "names no port",
		"tcp://example.test:443/x":      "more than a host",
		"tcp://:443":                    "neither",
		"tcp://example.test:0":          "no port",
		"http://example.test:70000/":    "no port",
		"http://user:pw@example.test/":  "neither",
		"http://example.test/#x":        "no HTTP status",
		"http://example.test/#99":       "no HTTP status",
		"http://exa mple.test/":         "no address",
		"tcp://example.test:443#secret": "more than a host",
	} {
		_, err := ParseProbe(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzParseProbe(f *testing.F) {
	for _, text := range []string{"tcp://a:1", "http://a/b#204", "http://[::1]:80/", "//", "tcp://a:99999999999999999999"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseProbe(text)
		if err != nil {
			return
		}
		again, err := ParseProbe(p.String())
		if err != nil || again.status != p.status || again.url.String() != p.url.String() {
			t.Errorf("%q: read again it is %+v, %v", text, again, err)
		}
	})
}
