package pages

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// start serves the pages, and returns where.
func start(t *testing.T, status func() any) (at string) {
	t.Helper()
	s := httptest.NewServer(New(status, slog.New(slog.DiscardHandler)))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// ask sends a request as it stands and returns the response with its body.
func ask(t *testing.T, at, method, request string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, method+" "+request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestPages(t *testing.T) {
	t.Parallel()
	at := start(t, func() any { return map[string]int{"lines": 3} })
	for _, c := range []struct {
		method, path string
		status       int
		mediaType    string
		says         string
	}{
		{"GET", "/", 200, plainText, "curl -x http://" + at},
		{"GET", "/?x", 200, plainText, "http://" + at + "/proxy.pac"},
		{"GET", "/file.iso", 404, plainText, "It is no web server"},
		{"POST", "/", 400, plainText, "It is no web server"},
		{"DELETE", "/file", 400, plainText, "It is no web server"},
		{"GET", "/proxy.pac", 200, "application/x-ns-proxy-autoconfig", "PROXY " + at + "; SOCKS5 " + at},
		{"POST", "/proxy.pac", 405, plainText, "405"},
		{"GET", "/status", 200, "application/json", "\"lines\": 3\n"},
		{"POST", "/status", 400, plainText, "It is no web server"},
	} {
		resp, body := ask(t, at, c.method, c.path+" HTTP/1.1\r\nHost: "+at+"\r\nContent-Length: 0\r\n\r\n")
		if resp.StatusCode != c.status || resp.Header.Get("Content-Type") != c.mediaType || !strings.Contains(body, c.says) {
			t.Errorf("%s %s: %s %v %q", c.method, c.path, resp.Status, resp.Header, body)
		}
		if c.status == 405 && resp.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s %s: %v", c.method, c.path, resp.Header)
		}
		if c.method != "GET" {
			continue
		}
		// The same without its body.
		head, none := ask(t, at, "HEAD", c.path+" HTTP/1.1\r\nHost: "+at+"\r\n\r\n")
		if head.StatusCode != c.status || none != "" || head.ContentLength != int64(len(body)) {
			t.Errorf("HEAD %s: %s %v %q", c.path, head.Status, head.Header, none)
		}
	}
}

// The pages name the listener as the client reached it, or as its socket is, but never what could be a script.
func TestPagesNameTheListener(t *testing.T) {
	t.Parallel()
	socket := start(t, nil)
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
		"a:":                     socket,
		"user@a:80":              "",
		"a/b":                    "",
		"[fe80::1%25eth0]:80":    socket,
		"[::1":                   socket,
		strings.Repeat("a", 300): strings.Repeat("a", 300) + ":80",
	} {
		resp, body := ask(t, socket, "GET", "/proxy.pac HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		if want == "" && resp.StatusCode == 200 || want != "" && !strings.Contains(body, fmt.Sprintf(`return "PROXY %[1]s; SOCKS5 %[1]s";`, want)) {
			t.Errorf("%q: %s %q, want %q", host, resp.Status, body, want)
		}
	}
	// An HTTP/1.0 client may have no Host.
	if _, body := ask(t, socket, "GET", "/proxy.pac HTTP/1.0\r\n\r\n"); !strings.Contains(body, "PROXY "+socket+";") {
		t.Errorf("got %q", body)
	}
}

// The status is for programs of this machine, asked for by its address.
func TestStatusIsForThisMachine(t *testing.T) {
	t.Parallel()
	at := start(t, func() any { return 3 })
	for host, want := range map[string]int{
		"127.0.0.1": 200, "127.0.0.1:8080": 200, "localhost:8080": 200, "[::1]:8080": 200,
		"site.test": 404, "192.0.2.1": 404, "127.0.0.1.site.test": 404,
	} {
		if resp, _ := ask(t, at, "GET", "/status HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); resp.StatusCode != want {
			t.Errorf("%s: %s", host, resp.Status)
		}
	}
	for client, want := range map[string]int{"127.0.0.2:5": 200, "192.0.2.1:5": 200, "[::ffff:192.0.2.1]:5": 200, "192.0.2.9:5": 404} {
		r := httptest.NewRequest("GET", "http://192.0.2.1:8080/status", http.NoBody)
		r = r.WithContext(contextAt(r, "192.0.2.1:8080"))
		r.RemoteAddr = client
		w := httptest.NewRecorder()
		New(func() any { return 3 }, nil).ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("asked by %s: %d", client, w.Code)
		}
	}
}

// A status that is none is told of, not sent in part.
func TestStatusThatFails(t *testing.T) {
	t.Parallel()
	at := start(t, func() any { return unprintable{} })
	if resp, _ := ask(t, at, "GET", "/status HTTP/1.1\r\nHost: "+at+"\r\n\r\n"); resp.StatusCode != http.StatusInternalServerError {
		t.Errorf("%s", resp.Status)
	}
}

type unprintable struct{}

func (unprintable) MarshalJSON() ([]byte, error) { return nil, errors.New("unprintable") }

// Whatever the client's Host, the script is the same but for the address.
func FuzzReachedAs(f *testing.F) {
	for _, seed := range []string{"example.com", "example.com:80", "[::1]:443", "[fe80::1%25eth0]:80", "user@host", "a b", "\"", "<script>", "%41", ":80", "a:", "xn--a", "[v1.x]", "[::]x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		at := reachedAs(host, local)
		if bad := strings.Trim(at, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-:[]"); bad != "" || at == "" {
			t.Errorf("%q: %q", host, at)
		}
		if _, port, err := net.SplitHostPort(at); err != nil || port == "" || port == "0" {
			t.Errorf("%q: %q %v", host, at, err)
		}
	})
}

var local = netip.MustParseAddrPort("192.0.2.1:8080")

// contextAt is that of a request which came in at an address.
func contextAt(r *http.Request, at string) context.Context {
	return context.WithValue(r.Context(), http.LocalAddrContextKey, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(at)))
}
