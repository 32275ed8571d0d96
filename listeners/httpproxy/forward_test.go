package httpproxy

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestForwardEveryMethod(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	heads := make(chan string, 1)
	o := newOrigin(t, answering(func(head string) string {
		heads <- head
		if strings.HasPrefix(head, "HEAD") {
			return "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
		}
		return ok("hello")
	}))
	client := f.client()
	methods := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "BREW", "M-SEARCH", "get"}
	for _, method := range methods {
		client.send(method + " " + o.url() + "/a?b HTTP/1.1\r\nHost: elsewhere\r\nX: y\r\n\r\n")
		resp, body := client.response(method)
		want := "hello"
		if method == "HEAD" {
			want = ""
		}
		if resp.StatusCode != 200 || body != want || resp.Header.Get("Content-Length") != "5" {
			t.Errorf("%s: %s %v %q", method, resp.Status, resp.Header, body)
		}
		head := <-heads
		if !strings.HasPrefix(head, method+" /a?b HTTP/1.1\r\nHost: "+o.host()+"\r\n") || !strings.Contains(head, "\r\nX: y\r\n") {
			t.Errorf("%s arrived as %q", method, head)
		}
	}
	f.sessions(len(methods))
}

// What the client wrote between the authority and the version arrives as it was written (RFC 9110 section 7.7).
func TestForwardKeepsTheTarget(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	heads := make(chan string, 1)
	o := newOrigin(t, answering(func(head string) string {
		heads <- head
		return ok("")
	}))
	client := f.client()
	for _, c := range []struct{ method, target, want string }{
		{"GET", "", "/"},
		{"GET", "/", "/"},
		{"GET", "?q", "/?q"},
		{"GET", "/?", "/?"},
		{"GET", "/a%2Fb%2fc/%7e~|{}\"<>^`", "/a%2Fb%2fc/%7e~|{}\"<>^`"},
		{"GET", "/a;b=c/d?e=f;g&h=/i?j#k", "/a;b=c/d?e=f;g&h=/i?j#k"},
		{"GET", "/a/../b/./c//d", "/a/../b/./c//d"},
		{"GET", "//a//b?c", "//a//b?c"},
		{"GET", "/\xc3\xa4\xff", "/\xc3\xa4\xff"},
		{"GET", "/http://x/", "/http://x/"},
		{"OPTIONS", "", "*"}, // RFC 9112 section 3.2.4
		{"OPTIONS", "/", "/"},
	} {
		client.send(c.method + " " + o.url() + c.target + " HTTP/1.1\r\nHost: x\r\n\r\n")
		if resp, _ := client.response(c.method); resp.StatusCode != 200 {
			t.Fatalf("%q: %s", c.target, resp.Status)
		}
		line, _, _ := strings.Cut(<-heads, "\r\n")
		if want := c.method + " " + c.want + " HTTP/1.1"; line != want {
			t.Errorf("%q arrived as %q, want %q", c.target, line, want)
		}
	}
}

// A request arrives with what the client sent and nothing else, but for what was meant for the proxy only.
func TestForwardRequestHeader(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	heads := make(chan string, 1)
	o := newOrigin(t, answering(func(head string) string {
		heads <- head
		return ok("")
	}))
	client := f.client()
	client.send("GET " + o.url() + "/ HTTP/1.1\r\nHost: wrong.example\r\n" +
		"Accept-Encoding: br, gzip\r\nCookie: a=b\r\ncookie: c=d\r\nX-Empty:\r\n" +
		"Connection: close, X-Hop\r\nConnection: Keep-Alive\r\nX-Hop: 1\r\nKeep-Alive: 300\r\n" +
		"Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic YW5uYTpzZWNyZXQ=\r\nProxy-Authenticate: x\r\n" +
		"TE: gzip, trailers;q=1\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n")
	client.response("GET")
	want := "GET / HTTP/1.1\r\nHost: " + o.host() + "\r\n" +
		"Accept-Encoding: br, gzip\r\nConnection: TE\r\nCookie: a=b\r\nCookie: c=d\r\nTe: trailers\r\nX-Empty: \r\n\r\n"
	if head := <-heads; head != want {
		t.Errorf("arrived as\n%q, want\n%q", head, want)
	}
	if got := f.session().attrs["user"].String(); got != "anna" {
		t.Errorf("the record names the user %q", got)
	}

	// Nothing is invented for a client that sends next to nothing.
	client = f.client()
	client.send("GET " + o.url() + "/ HTTP/1.0\r\n\r\n")
	client.whole()
	if head, want := <-heads, "GET / HTTP/1.1\r\nHost: "+o.host()+"\r\n\r\n"; head != want {
		t.Errorf("arrived as\n%q, want\n%q", head, want)
	}
}

// A response arrives with what the origin sent, but for what was meant for the proxy only.
func TestForwardResponseHeader(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	o := newOrigin(t, answering(func(string) string {
		return "HTTP/1.1 299 Whatever\r\nDate: then\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Encoding: gzip\r\n" +
			"Connection: keep-alive, x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\n" +
			"Proxy-Connection: close\r\nUpgrade: h2c\r\nTE: x\r\nContent-Length: 3\r\n\r\n<a>"
	}))
	client := f.client()
	client.send(get(o, "Connection: close"))
	want := "HTTP/1.1 299 status code 299\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\nDate: then\r\n" +
		"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: close\r\n\r\n<a>"
	if got := client.whole(); got != want {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}

func TestForwardFramesOfResponses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, request, response, want string }{
		{"length", "GET 1.1", "1.1 200 OK|Content-Length: 2||ab", "1.1 200 OK|Content-Length: 2||ab"},
		{"empty", "GET 1.1", "1.1 200 OK|Content-Length: 0||", "1.1 200 OK|Content-Length: 0||"},
		{"same length twice", "GET 1.1", "1.1 200 OK|Content-Length: 2|Content-Length: 2||ab", "1.1 200 OK|Content-Length: 2||ab"},
		{"chunked", "GET 1.1", "1.1 200 OK|Transfer-Encoding: chunked||2|ab|0||", "1.1 200 OK|Content-Length: 2||ab"},
		{"to the end", "GET 1.1", "1.0 200 OK||ab", "1.1 200 OK|Transfer-Encoding: chunked||2|ab|0||"},
		{"length and chunked", "GET 1.1", "1.1 200 OK|Content-Length: 9|Transfer-Encoding: chunked||2|ab|0||", "1.1 200 OK|Content-Length: 2||ab"},
		{"1.0 client, length", "GET 1.0", "1.1 200 OK|Content-Length: 2||ab", "1.0 200 OK|Content-Length: 2|Connection: close||ab"},
		{"1.0 client, chunked", "GET 1.0", "1.1 200 OK|Transfer-Encoding: chunked||2|ab|0||", "1.0 200 OK|Content-Length: 2|Connection: close||ab"},
		{"1.0 client, to the end", "GET 1.0", "1.0 200 OK||ab", "1.0 200 OK|Connection: close||ab"},
		{"1.0 client that would stay", "GET 1.0 keep", "1.1 200 OK|Content-Length: 2||ab", "1.0 200 OK|Content-Length: 2|Connection: close||ab"},
		{"head", "HEAD 1.1", "1.1 200 OK|Content-Length: 2000||", "1.1 200 OK|Content-Length: 2000||"},
		{"head, chunked", "HEAD 1.1", "1.1 200 OK|Transfer-Encoding: chunked||", "1.1 200 OK||"},
		{"no content", "GET 1.1", "1.1 204 No Content|X: y||", "1.1 204 No Content|X: y||"},
		{"not modified", "GET 1.1", "1.1 304 Not Modified|Etag: x||", "1.1 304 Not Modified|Etag: x||"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := start(t, fixtureConfig{})
			o := newOrigin(t, func(p *peer) {
				p.head()
				p.send("HTTP/" + strings.ReplaceAll(c.response, "|", "\r\n"))
			})
			client := f.client()
			part := strings.Fields(c.request)
			client.send(part[0] + " " + o.url() + "/ HTTP/" + part[1] + "\r\nHost: x\r\n")
			if len(part) > 2 {
				client.send("Connection: keep-alive\r\n")
			}
			client.send("\r\n")
			fields, body, _ := strings.Cut(c.want, "||")
			want := "HTTP/" + strings.ReplaceAll(fields, "|", "\r\n") + "\r\n\r\n"
			got := withoutDate(client.head())
			if sortFields(got) != sortFields(want) {
				t.Errorf("got %q, want %q", got, want)
			}
			client.expect(strings.ReplaceAll(body, "|", "\r\n"))
			if part[1] == "1.0" {
				if rest := client.whole(); rest != "" {
					t.Errorf("then came %q", rest)
				}
			} else {
				// The end was understood, for the connection goes on.
				client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				if resp, _ := client.response("GET"); resp.StatusCode != 404 {
					t.Errorf("then came %s", resp.Status)
				}
			}
			if class := f.session().class(); class != "" {
				t.Errorf("the record says %q", class)
			}
		})
	}
}

func withoutDate(head string) string {
	before, after, found := strings.Cut(head, "Date: ")
	if !found {
		return head
	}
	_, after, _ = strings.Cut(after, "\r\n")
	return before + after
}

func sortFields(head string) string {
	status, fields, _ := strings.Cut(head, "\r\n")
	h := http.Header{}
	for line := range strings.SplitSeq(fields, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		h[name] = append(h[name], value)
	}
	return fmt.Sprint(status, h)
}

// Requests that cannot be forwarded get a page and no session.
// net/http hides the fields that Connection names when "close" is among them.
func TestForwardStripsHopsOfAClosingOrigin(t *testing.T) {
	t.Parallel()
	for _, connection := range []string{
		"Connection: X-Hop, close\r\nX-Hop: 1\r\n", "X-Hop: 1\r\nconnection:close , x-hop\r\n",
		"Connection: close\r\nX-Hop: 1\r\nConnection: X-Hop\r\n", "Connection: X-Hop\r\nX-Hop: 1\r\nConnection: close\r\n",
	} {
		f := start(t, fixtureConfig{})
		o := newOrigin(t, func(p *peer) {
			p.head()
			head := "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nX-Kept: 1\r\n" + connection + "Content-Length: 2\r\n"
			for part := range slices.Chunk([]byte(head), 40) { // a head need not come in one piece
				p.send(string(part))
				time.Sleep(time.Millisecond)
			}
			p.send("\r\nok")
		})
		client := f.client()
		client.send(get(o))
		client.head() // the early hints
		resp, body := client.response("GET")
		if body != "ok" || resp.Header.Get("X-Kept") != "1" || resp.Header.Get("X-Hop") != "" {
			t.Errorf("%q: arrived as %v %q", connection, resp.Header, body)
		}
	}
}

// net/http takes lines that end in either way, mixed; a head without a body is its whole message.
func TestForwardHeadsOfMixedLines(t *testing.T) {
	t.Parallel()
	for _, head := range []string{
		"HTTP/1.1 204 x\r\nX: 1\r\n\r\n", "HTTP/1.1 204 x\nX: 1\n\n", "HTTP/1.1 204 x\r\nX: 1\n\r\n", "HTTP/1.1 204 x\nX: 1\r\n\n",
	} {
		f := start(t, fixtureConfig{})
		o := newOrigin(t, answering(func(string) string { return head }))
		client := f.client()
		client.send(get(o))
		if resp, _ := client.response("GET"); resp.StatusCode != http.StatusNoContent || resp.Header.Get("X") != "1" {
			t.Errorf("%q: arrived as %s %v", head, resp.Status, resp.Header)
		}
	}
}

// A server of another protocol greets, and waits.
func TestForwardToAnotherProtocol(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	answered := make(chan struct{})
	o := newOrigin(t, func(p *peer) {
		p.send("SSH-2.0-OpenSSH_9.2\r\n")
		<-answered
	})
	client := f.client()
	client.send(get(o))
	resp, body := client.response("GET")
	close(answered)
	if resp.StatusCode != http.StatusBadGateway || !strings.Contains(body, "not HTTP") {
		t.Errorf("%s %q", resp.Status, body)
	}
}

// The framing of an HTTP/1.0 request with Transfer-Encoding is faulty (RFC 9112 section 6.1): its body must not be lost.
func TestForwardRefusesBodiesWithoutLength(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"POST", "PUT", "PATCH"} {
		f := start(t, fixtureConfig{})
		client := f.client()
		client.send(method + " http://origin/ HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
		if resp, body := client.response(method); resp.StatusCode != http.StatusLengthRequired || !strings.Contains(body, "Content-Length") {
			t.Errorf("%s: %s %q", method, resp.Status, body)
		}
		if rest, _ := client.rest(); rest != "" {
			t.Errorf("%s: then came %q", method, rest)
		}
		f.sessions(0)
	}
}

func TestForwardRefuses(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	for _, c := range []struct {
		target string
		status int
		says   string
	}{
		{"https://origin/", 501, "CONNECT"},
		{"ftp://origin/", 501, "http addresses only"},
		{"ws://origin/", 501, "http addresses only"},
		{"mailto:someone", 501, "http addresses only"},
		{"http:/path", 400, "names no host"},
		{"http:///path", 400, "names no host"},
		{"http://:80/", 400, "names no host"},
		{"http://user:secret@origin/", 400, "user name"},
		{"http://user@origin/", 400, "user name"},
		{"http://origin:0/", 400, "port"},
		{"http://origin:65536/", 400, "port"},
		{"http://origin:99999999999999999999/", 400, "port"},
		{"http://[127.0.0.1]/", 400, "Bad Request"}, // net/http's page
		{"http://::1/", 400, "Bad Request"},
		{"http://b\xc3\xbccher.example/", 400, "xn--"},
		{"http://a'b/", 400, "neither"},
		{"http://<b>/", 400, "neither"},
	} {
		client := f.client()
		client.send("GET " + c.target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		resp, body := client.response("GET")
		if resp.StatusCode != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %s %q, want %d with %q", c.target, resp.Status, body, c.status, c.says)
		}
		if strings.Contains(body, "secret") || strings.Contains(body, "<b>") {
			t.Errorf("%s: the page says %q", c.target, body)
		}
	}
	f.sessions(0)
}

// What net/http refuses by itself.
func TestForwardRefusesMalformedHeads(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	o := newOrigin(t, hello(t))
	for _, c := range []struct {
		name, request string
		status        int
	}{
		{"no host field", "GET " + o.url() + "/ HTTP/1.1\r\n\r\n", 400},
		{"two host fields", "GET " + o.url() + "/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
		{"two lengths", "POST " + o.url() + "/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
		{"negative length", "POST " + o.url() + "/ HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400},
		{"unknown coding", "POST " + o.url() + "/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
		{"chunked twice", "POST " + o.url() + "/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 501},
		{"space before colon", "GET " + o.url() + "/ HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400},
		{"control character", "GET " + o.url() + "/ HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n", 400},
		{"control character in target", "GET " + o.url() + "/\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"expectation", "POST " + o.url() + "/ HTTP/1.1\r\nHost: a\r\nExpect: miracle\r\nContent-Length: 1\r\n\r\na", 417},
		{"version", "GET " + o.url() + "/ HTTP/3.0\r\nHost: a\r\n\r\n", 505},
		{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
		{"huge head", "GET " + o.url() + "/ HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", maxRequestHead+8<<10) + "\r\n\r\n", 431},
		{"huge target", "GET " + o.url() + "/" + strings.Repeat("x", maxRequestHead+8<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n", 431},
	} {
		client := f.client()
		client.send(c.request)
		resp, _ := client.response("GET")
		if resp.StatusCode != c.status {
			t.Errorf("%s: %s, want %d", c.name, resp.Status, c.status)
		}
		if rest := client.whole(); rest != "" {
			t.Errorf("%s: then came %q", c.name, rest)
		}
	}
	f.sessions(0)
}

// With both framings only the chunked one goes on (RFC 9112 section 6.3), so that the origin cannot see a second
// request in the body of the first.
func TestForwardKeepsRequestsApart(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	got := make(chan string, 1)
	o := newOrigin(t, func(p *peer) {
		got <- p.head()
		p.head() // the last chunk
		p.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		got <- p.whole()
	})
	client := f.client()
	client.send("POST " + o.url() + "/ HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"0\r\n\r\nGET http://nobody/ HTTP/1.1\r\nHost: a\r\n\r\n")
	if resp, _ := client.response("POST"); resp.StatusCode != 200 {
		t.Errorf("the first request: %s", resp.Status)
	}
	if resp, _ := client.response("GET"); resp.StatusCode != 502 {
		t.Errorf("the second request: %s", resp.Status)
	}
	want := "POST / HTTP/1.1\r\nHost: " + o.host() + "\r\nTransfer-Encoding: chunked\r\n\r\n"
	if head := <-got; head != want {
		t.Errorf("the origin read %q, want %q", head, want)
	}
	if rest := <-got; rest != "" {
		t.Errorf("then the origin read %q", rest)
	}
}

// Max-Forwards ends here at 0 (RFC 9110 section 7.6.2), and TRACE in any case.
func TestForwardCountsHops(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	heads := make(chan string, 1)
	o := newOrigin(t, answering(func(head string) string {
		heads <- head
		return ok("")
	}))
	client := f.client()
	for _, c := range []struct{ method, before, after string }{
		{"OPTIONS", "2", "1"}, {"OPTIONS", "1", "0"}, {"OPTIONS", "-1", "-1"}, {"OPTIONS", "x", "x"}, {"GET", "0", "0"},
	} {
		client.send(c.method + " " + o.url() + "/ HTTP/1.1\r\nHost: x\r\nMax-Forwards: " + c.before + "\r\n\r\n")
		client.response(c.method)
		if head := <-heads; !strings.Contains(head, "\r\nMax-Forwards: "+c.after+"\r\n") {
			t.Errorf("%v arrived as %q", c, head)
		}
	}
	client.send("OPTIONS " + o.url() + "/ HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n")
	if resp, body := client.response("OPTIONS"); resp.StatusCode != 200 || body != "" {
		t.Errorf("%s %q", resp.Status, body)
	}
	for _, field := range []string{"", "Max-Forwards: 0\r\n", "Max-Forwards: 2\r\n"} {
		client := f.client()
		client.send("TRACE " + o.url() + "/ HTTP/1.1\r\nHost: x\r\nCookie: secret\r\n" + field + "\r\n")
		resp, body := client.response("TRACE")
		if resp.StatusCode != 405 || !strings.Contains(resp.Header.Get("Allow"), "OPTIONS") || strings.Contains(body, "secret") {
			t.Errorf("%s %v %q", resp.Status, resp.Header, body)
		}
	}
	f.sessions(5)
}
