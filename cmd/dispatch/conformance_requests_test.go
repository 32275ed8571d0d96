package main

import "strings"

// plainHead is that of a request without content, to which fields may be added; end ends a head.
const (
	plainHead = "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\n"
	postHead  = "POST http://{o}/ HTTP/1.1\r\nHost: {o}\r\n"
	end       = "\r\n\r\n"
	chunkedTE = "Transfer-Encoding: chunked"
)

// What is right of most.
const (
	served     = "200 ok; open | GET /"
	servedLast = "200 ok; closed | GET /"
	posted     = "200 ok; open | POST / ok"
	badRequest = "400; closed |"
)

// Requests in their forms. The rules are sections of RFC 9112, where they do not say otherwise.
func requestCases() []wire {
	line := func(l string) string { return l + "\r\nHost: {o}\r\n\r\n" }
	return append([]wire{
		{name: "GET", rule: "3.2.2", send: plainHead + "\r\n", want: served},
		{name: "HTTP/1.0", rule: "9.3", send: "GET http://{o}/ HTTP/1.0\r\n\r\n", want: servedLast},
		{name: "HTTP/1.0, keep-alive", rule: "9.3", send: "GET http://{o}/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", want: servedLast},
		{name: "Connection: close", rule: "9.6", send: plainHead + "Connection: close" + end, want: servedLast},
		{name: "Connection: Close, among others", rule: "9.6", send: plainHead + "Connection: foo, Close" + end, want: servedLast},
		{name: "two at once", rule: "9.3.2", send: line("GET http://{o}/1 HTTP/1.1") + line("GET http://{o}/2 HTTP/1.1"), want: "200 ok, 200 ok; open | GET /1, GET /2"},
		{name: "empty line between two", rule: "2.2", send: line("GET http://{o}/1 HTTP/1.1") + "\r\n" + line("GET http://{o}/2 HTTP/1.1"), want: "200 ok, 200 ok; open | GET /1, GET /2",
			known: 12, today: "200 ok, 400; closed | GET /1 or 200 ok, 400 (cut); reset | GET /1 or 200 ok; reset | GET /1"},
		{name: "empty line first", rule: "2.2", send: "\r\n" + plainHead + "\r\n", want: served, known: 12, today: "; closed | or ; reset |"},
		{name: "HEAD", rule: "6.3", send: line("HEAD http://{o}/ HTTP/1.1"), want: "200; open | HEAD /", got: []string{"Content-Length: 2"}},
		{name: "half-closed", rule: "9.6", send: plainHead + "\r\n", after: fins, want: servedLast},

		// The request line.
		{name: "no path", rule: "3.2.1", send: line("GET http://{o} HTTP/1.1"), want: served},
		{name: "no path, a query", rule: "3.2.1", send: line("GET http://{o}?q HTTP/1.1"), want: "200 ok; open | GET /?q"},
		{name: "OPTIONS without a path", rule: "3.2.4", send: line("OPTIONS http://{o} HTTP/1.1"), want: "200 ok; open | OPTIONS *"},
		{name: "path as it is", rule: "RFC 9110 7.7", send: line("GET http://{o}//a/../%2f%7e;b?c=d?&|{}\xc3\xa4 HTTP/1.1"), want: "200 ok; open | GET //a/../%2f%7e;b?c=d?&|{}\xc3\xa4"},
		{name: "bare % in the path", rule: "3.2, left to the origin", send: line("GET http://{o}/100%?a%zz HTTP/1.1"), want: "200 ok; open | GET /100%?a%zz", known: 12, today: badRequest},
		{name: "fragment", rule: "3.2, RFC 9110 7.1", send: line("GET http://{o}/a#b HTTP/1.1"), want: "200 ok; open | GET /a", known: 12, today: `502; closed | GET /a#b (request target "/a#b")`},
		{name: "scheme in capitals", rule: "RFC 3986 3.1", send: line("GET HTTP://{o}/ HTTP/1.1"), want: served},
		{name: "method in small letters", rule: "RFC 9110 9.1", send: line("get http://{o}/ HTTP/1.1"), want: "200 ok; open | get /"},
		{name: "unknown method", rule: "RFC 9110 9.1", send: line("M-SEARCH http://{o}/ HTTP/1.1"), want: "200 ok; open | M-SEARCH /"},
		{name: "name as host", rule: "3.2.2", send: "GET http://localhost:{p}/ HTTP/1.1\r\nHost: x\r\n\r\n", want: served, reached: []string{"Host: localhost:{p}\r\n"}},
		{name: "no host", rule: "RFC 9110 4.2.1", send: line("GET http:///a HTTP/1.1"), want: "400; closed |"},
		{name: "no host but a port", rule: "RFC 9110 4.2.1", send: line("GET http://:{p}/ HTTP/1.1"), want: "400; closed |"},
		{name: "user and password", rule: "RFC 9110 4.2.4", send: line("GET http://u:p@{o}/ HTTP/1.1"), want: "400; closed |"},
		{name: "port 0", rule: "RFC 9110 4.2.1", send: line("GET http://127.0.0.1:0/ HTTP/1.1"), want: "400; closed |"},
		{name: "port 65536 and more", rule: "RFC 9110 4.2.1", send: line("GET http://127.0.0.1:131152/ HTTP/1.1"), want: "400; closed |"},
		{name: "port not a number", rule: "RFC 3986 3.2.3", send: line("GET http://127.0.0.1:8a/ HTTP/1.1"), want: badRequest},
		{name: "backslash in the host", rule: "RFC 3986 3.2.2", send: line(`GET http://{o}\@x/ HTTP/1.1`), want: badRequest},
		{name: "escape in the host", rule: "RFC 3986 3.2.2", send: line("GET http://127.0.0.1%00.x:{p}/ HTTP/1.1"), want: badRequest},
		{name: "https", rule: "RFC 9110 15.6.2", send: line("GET https://{o}/ HTTP/1.1"), want: "501; closed |"},
		{name: "ftp", rule: "RFC 9110 15.6.2", send: line("GET ftp://{o}/ HTTP/1.1"), want: "501; closed |"},
		{name: "two blanks", rule: "3", send: line("GET  http://{o}/ HTTP/1.1"), want: badRequest},
		{name: "blank in the target", rule: "3.2", send: line("GET http://{o}/a b HTTP/1.1"), want: badRequest},
		{name: "tab", rule: "3", send: line("GET\thttp://{o}/\tHTTP/1.1"), want: badRequest},
		{name: "control character in the target", rule: "3.2", send: line("GET http://{o}/\x01 HTTP/1.1"), want: badRequest},
		{name: "NUL in the target", rule: "3.2", send: line("GET http://{o}/\x00 HTTP/1.1"), want: badRequest},
		{name: "bare CR in the target", rule: "2.2", send: line("GET http://{o}/\rX: HTTP/1.1"), want: badRequest},
		{name: "blank at the end", rule: "3", send: line("GET http://{o}/ HTTP/1.1 "), want: badRequest},
		{name: "no version", rule: "3", send: "GET http://{o}/\r\n\r\n", want: badRequest},
		{name: "HTTP/1.2", rule: "RFC 9110 2.5", send: line("GET http://{o}/ HTTP/1.2"), want: served},
		{name: "HTTP/2.0", rule: "RFC 9110 15.6.6", send: line("GET http://{o}/ HTTP/2.0"), want: "505; closed |"},
		{name: "HTTP/2 preface", rule: "RFC 9113 3.4", send: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", want: "505; closed |"},
		{name: "http/1.1", rule: "2.3", send: line("GET http://{o}/ http/1.1"), want: badRequest},
		{name: "HTTP/01.1", rule: "2.3", send: line("GET http://{o}/ HTTP/01.1"), want: badRequest},
		{name: "HTTP/1.1x", rule: "2.3", send: line("GET http://{o}/ HTTP/1.1x"), want: badRequest},
		{name: "no method", rule: "3", send: line(" http://{o}/ HTTP/1.1"), want: badRequest, known: 12, today: "; closed | or ; reset |"},
		{name: "method is no token", rule: "RFC 9110 9.1", send: line("GE(T http://{o}/ HTTP/1.1"), want: badRequest},
		{name: "target of 60,000 bytes", rule: "3", send: line("GET http://{o}/" + strings.Repeat("a", 60000) + " HTTP/1.1"), want: "200 ok; open | GET /" + strings.Repeat("a", 60000), whole: true},
		{name: "target of 2 MB", rule: "3, RFC 9110 15.5.15", send: line("GET http://{o}/" + strings.Repeat("a", 2<<20) + " HTTP/1.1"), want: "431; closed |", whole: true},
		{name: "5,000 fields", rule: "5", send: plainHead + strings.Repeat("X-Many: 1\r\n", 5000) + "\r\n", want: served, whole: true},
		{name: "fields of 2 MB", rule: "RFC 6585 5", send: plainHead + strings.Repeat("X-Many: 1\r\n", 200_000) + "\r\n", want: "431; closed |", whole: true},

		// Host, and what asks for nothing that a proxy forwards.
		{name: "no Host", rule: "3.2", send: "GET http://{o}/ HTTP/1.1\r\n\r\n", want: badRequest},
		{name: "two Hosts", rule: "3.2", send: plainHead + "Host: {o}" + end, want: badRequest},
		{name: "empty Host", rule: "3.2.2", send: "GET http://{o}/ HTTP/1.1\r\nHost:\r\n\r\n", want: served, reached: []string{"Host: {o}\r\n"}},
		{name: "another Host", rule: "3.2.2", send: "GET http://{o}/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", want: served, reached: []string{"Host: {o}\r\n", "!evil"}},
		{name: "Host is none", rule: "3.2", send: "GET http://{o}/ HTTP/1.1\r\nHost: a b\r\n\r\n", want: badRequest},
		{name: "Host with a user", rule: "3.2", send: "GET http://{o}/ HTTP/1.1\r\nHost: a@b\r\n\r\n", want: badRequest},
		{name: "origin form, another Host", rule: "7.4, RFC 9110 15.5.20", send: "GET /secret HTTP/1.1\r\nHost: rebound.example\r\n\r\n", want: "421; closed |", got: []string{"!rebound.example"},
			known: 12, today: `404; open | but "!rebound.example"`},
		{name: "origin form for this proxy", rule: "3.2.1", send: "GET /proxy.pac HTTP/1.1\r\nHost: 127.0.0.1:{own}\r\nConnection: close\r\n\r\n", want: "200 f...; closed |", got: []string{"FindProxyForURL"}},
		{name: "asterisk form", rule: "3.2.4", send: "OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1:{own}\r\n\r\n", want: "200; open |"},
		{name: "OPTIONS, no further", rule: "RFC 9110 7.6.2", send: "OPTIONS http://{o}/ HTTP/1.1\r\nHost: {o}\r\nMax-Forwards: 0\r\n\r\n", want: "200; open |"},
		{name: "OPTIONS, one further", rule: "RFC 9110 7.6.2", send: "OPTIONS http://{o}/ HTTP/1.1\r\nHost: {o}\r\nMax-Forwards: 1\r\n\r\n", want: "200 ok; open | OPTIONS /", reached: []string{"Max-Forwards: 0\r\n"}},
		{name: "TRACE, no further", rule: "RFC 9110 9.3.8", send: "TRACE http://{o}/ HTTP/1.1\r\nHost: {o}\r\nMax-Forwards: 0\r\n\r\n", want: "405; open | or 405; closed |"},

		// CONNECT.
		{name: "CONNECT", rule: "3.2.3", send: "CONNECT {o} HTTP/1.1\r\nHost: {o}\r\n\r\nping", want: "200, ping; closed | ping", got: []string{"!Content-Length", "!Transfer-Encoding"}},
		{name: "CONNECT in HTTP/1.0", rule: "3.2.3", send: "CONNECT {o} HTTP/1.0\r\n\r\nping", want: "200, ping; closed | ping"},
		{name: "CONNECT without Host", rule: "3.2", send: "CONNECT {o} HTTP/1.1\r\n\r\nping", want: badRequest, known: 17, today: "200, ping; closed | ping"},
		{name: "CONNECT, another Host", rule: "3.2.3", send: "CONNECT {o} HTTP/1.1\r\nHost: x\r\n\r\nping", want: "200, ping; closed | ping"},
		{name: "CONNECT with a length", rule: "RFC 9110 9.3.6", send: "CONNECT {o} HTTP/1.1\r\nHost: {o}\r\nContent-Length: 4\r\n\r\nping", want: "200, ping; closed | ping"},
		{name: "CONNECT in chunks", rule: "RFC 9110 9.3.6", send: "CONNECT {o} HTTP/1.1\r\nHost: {o}\r\nTransfer-Encoding: chunked\r\n\r\nping", want: "200, ping; closed | ping"},
		{name: "CONNECT without a port", rule: "RFC 9110 9.3.6", send: "CONNECT 127.0.0.1 HTTP/1.1\r\nHost: x\r\n\r\n", want: "400; closed |"},
		{name: "CONNECT, port 0", rule: "RFC 9110 9.3.6", send: "CONNECT 127.0.0.1:0 HTTP/1.1\r\nHost: x\r\n\r\n", want: "400; closed |"},
		{name: "CONNECT with a path", rule: "3.2.3", send: "CONNECT {o}/a HTTP/1.1\r\nHost: x\r\n\r\n", want: "400; closed |"},
		{name: "CONNECT with a user", rule: "3.2.3", send: "CONNECT u@{o} HTTP/1.1\r\nHost: x\r\n\r\n", want: "400; closed |"},
		{name: "CONNECT a URL", rule: "3.2.3", send: "CONNECT http://{o}/ HTTP/1.1\r\nHost: x\r\n\r\n", want: "400; closed |"},
		{name: "CONNECT, nobody there", rule: "RFC 9110 15.6.3", send: "CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\n\r\n", want: "502; closed |"},
	}, fieldCases()...)
}
