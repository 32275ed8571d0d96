package httpproxy

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func TestOwnPages(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	at := f.at.String()
	for _, c := range []struct {
		method, target string
		status         int
		mediaType      string
		says           string
	}{
		{"GET", "/", 200, plainText, "curl -x http://" + at},
		{"GET", "/?x", 200, plainText, "http://" + at + "/proxy.pac"},
		{"GET", "/file.iso", 404, plainText, "It is no web server"},
		{"POST", "/", 400, plainText, "It is no web server"},
		{"DELETE", "/file", 400, plainText, "It is no web server"},
		{"GET", "/proxy.pac", 200, "application/x-ns-proxy-autoconfig", "PROXY " + at + "; SOCKS5 " + at},
		{"POST", "/proxy.pac", 405, plainText, "405"},
		{"OPTIONS", "*", 200, "", ""},
	} {
		client := f.client()
		client.send(c.method + " " + c.target + " HTTP/1.1\r\nHost: " + at + "\r\nContent-Length: 0\r\n\r\n")
		resp, body := client.response(c.method)
		if resp.StatusCode != c.status || resp.Header.Get("Content-Type") != c.mediaType || !strings.Contains(body, c.says) {
			t.Errorf("%s %s: %s %v %q", c.method, c.target, resp.Status, resp.Header, body)
		}
		if c.status == 405 && resp.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s %s: %v", c.method, c.target, resp.Header)
		}
		if c.method != "GET" {
			continue
		}
		// The same without its body.
		client = f.client()
		client.send("HEAD " + c.target + " HTTP/1.1\r\nHost: " + at + "\r\n\r\n")
		if head, none := client.response("HEAD"); head.StatusCode != c.status || none != "" || head.ContentLength != int64(len(body)) {
			t.Errorf("HEAD %s: %s %v %q", c.target, head.Status, head.Header, none)
		}
	}
	f.sessions(0)
}

// The pages name the listener as the client reached it, or as its socket is, but never what could be a script.
func TestOwnPagesNameTheListener(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	socket := f.at.String()
	for host, want := range map[string]string{
		"nas.local:8080":         "nas.local:8080",
		"nas":                    "nas:80",
		"192.0.2.7:3128":         "192.0.2.7:3128",
		"[2001:db8::7]:3128":     "[2001:db8::7]:3128",
		"":                       socket,
		"a\"; alert(1); \"":      "", // refused by net/http
		"a;b":                    socket,
		"a'b:80":                 socket,
		"a:99999":                socket,
		"a:0":                    socket,
		"a:b":                    socket,
		"user@a:80":              "",
		"a/b":                    "",
		"[fe80::1%25eth0]:80":    socket,
		"[::1":                   socket,
		strings.Repeat("a", 300): strings.Repeat("a", 300) + ":80",
	} {
		client := f.client()
		client.send("GET /proxy.pac HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
		resp, body := client.response("GET")
		if want == "" && resp.StatusCode == 200 || want != "" && !strings.Contains(body, fmt.Sprintf(`return "PROXY %[1]s; SOCKS5 %[1]s";`, want)) {
			t.Errorf("%q: %s %q, want %q", host, resp.Status, body, want)
		}
	}
}

// An HTTP/1.0 client may have no Host.
func TestOwnPagesWithoutHost(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	client := f.client()
	client.send("GET /proxy.pac HTTP/1.0\r\n\r\n")
	if all := client.whole(); !strings.Contains(all, "PROXY "+f.at.String()+";") {
		t.Errorf("got %q", all)
	}
}

// Hosts that checkHost lets pass need no escaping, wherever they are printed.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{
		"example.com", "example.com:80", "[::1]:443", "[fe80::1%25eth0]:80", "user@host", "a b", "\"", "<script>", "%41", "[::1%25lo]", ":80", "a:", "xn--a", "[v1.x]",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, authority string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+authority+"/", http.NoBody)
		if err != nil {
			return
		}
		host, port, err := target(r.URL, 80)
		if err != nil {
			return
		}
		if port == 0 || host == "" {
			t.Errorf("%q: %q %d", authority, host, port)
		}
		if addr, err := netip.ParseAddr(host); err == nil {
			if addr.Zone() != "" && !addr.IsLinkLocalUnicast() {
				t.Errorf("%q: %v", authority, addr)
			}
			return
		}
		if strings.ContainsFunc(host, func(c rune) bool {
			return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune("-._", c)
		}) {
			t.Errorf("%q: %q", authority, host)
		}
		script := pac(reachedAs(&http.Request{Host: r.URL.Host}, nil))
		if strings.Count(script, `"`) != 12 {
			t.Errorf("%q: %s", authority, script)
		}
	})
}
