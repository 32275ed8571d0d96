package main

import (
	"strings"
	"time"
)

// What origins answer a GET, and what the client gets of it: the gateway reads leniently where the framing is clear, and
// writes as the rules have it. They are sections of RFC 9112, where they do not say otherwise.
func responseCases() []wire {
	const (
		ask    = plainHead + "\r\n"
		old    = "GET http://{o}/ HTTP/1.0\r\n\r\n"
		line   = "HTTP/1.1 200 OK\r\n"
		two    = "Content-Length: 2\r\n\r\nok"
		chunks = "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
		lost   = "502; closed | GET /"
		broken = "200 (cut); reset | GET /"
		extra  = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"
	)
	with := func(field string) string { return line + field + "\r\n" + two }
	framed := func(fields string) string { return line + fields + "\r\n\r\nok" }
	chunked := func(data string) string { return line + "Transfer-Encoding: chunked\r\n\r\n" + data }
	hints := func(n int) string { return strings.Repeat("HTTP/1.1 103 Early Hints\r\nX-H: 1\r\n\r\n", n) }
	return []wire{
		{name: "length", rule: "6.3", send: ask, answer: line + two, want: served},
		{name: "chunks", rule: "6.3", send: ask, answer: line + chunks, want: served},
		{name: "until the end", rule: "6.3 8", send: ask, answer: line + "\r\nok", answerEnd: fins, want: served},
		{name: "until a reset", rule: "8", send: ask, answer: line + "\r\nok", answerEnd: resets, want: "200 ok (cut); reset | GET /"},
		{name: "shorter than its length", rule: "8", send: ask, answer: line + "Content-Length: 3\r\n\r\nok", answerEnd: fins, want: "200 ok (cut); reset | GET /"},
		{name: "longer than its length", rule: "6.3", send: ask, answer: line + "Content-Length: 1\r\n\r\nok", want: "200 o; open | GET /"},
		{name: "no last chunk", rule: "8", send: ask, answer: chunked("2\r\nok\r\n"), answerEnd: fins, want: "200 ok (cut); reset | GET /"},
		{name: "length, client of HTTP/1.0", rule: "RFC 9110 2.5", send: old, answer: line + two, want: servedLast},
		{name: "chunks, client of HTTP/1.0", rule: "6.1", send: old, answer: line + chunks, want: servedLast},
		{name: "no last chunk, client of HTTP/1.0", rule: "8", send: old, answer: chunked("2\r\nok\r\n"), answerEnd: fins, want: "200 ok (cut); reset | GET /"},
		{name: "HEAD", rule: "6.3 1", send: "HEAD http://{o}/ HTTP/1.1\r\nHost: x\r\n\r\n", answer: line + "Content-Length: 12345" + end, want: "200; open | HEAD /", got: []string{"Content-Length: 12345\r\n"}},
		{name: "HEAD of chunks", rule: "6.1", send: "HEAD http://{o}/ HTTP/1.1\r\nHost: x\r\n\r\n", answer: line + "Transfer-Encoding: chunked" + end, want: "200; open | HEAD /"},
		{name: "204", rule: "6.3 1", send: ask, answer: "HTTP/1.1 204 No Content\r\n\r\n", want: "204; open | GET /", got: []string{"!Content-Length: 0"}},
		{name: "204 with a length", rule: "RFC 9110 8.6", send: ask, answer: "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", want: "204; open | GET /", got: []string{"!Content-Length: 0"}},
		{name: "205", rule: "RFC 9110 15.3.6", send: ask, answer: "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", want: "205; open | GET /"},
		{name: "304", rule: "RFC 9110 15.4.5, 8.6", send: ask, answer: "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Type: text/x\r\nContent-Length: 12345\r\n\r\n", want: "304; open | GET /",
			got: []string{"Etag: \"a\"\r\n", "Content-Type: text/x\r\n", "Content-Length: 12345\r\n"}, known: 12, today: `304; open | GET /, but "Content-Type: text/x\r\n", but "Content-Length: 12345\r\n"`},
		{name: "until the end, nothing", rule: "6.3 8", send: ask, answer: line + "\r\n", answerEnd: fins, want: "200; open | GET /"},

		// What nobody has asked for is nobody's answer, on a connection that is kept least of all. It comes in one piece:
		// what comes behind the next request cannot be told from that one's answer.
		{name: "another behind the first", rule: "9.2", send: ask, answer: line + two + extra, whole: true, want: served, got: []string{"!smuggled"}},
		{name: "another behind chunks", rule: "9.2", send: ask, answer: line + chunks + extra, whole: true, want: served, got: []string{"!smuggled"}},
		{name: "another behind a 204", rule: "6.3 1, 9.2", send: ask, answer: "HTTP/1.1 204 No Content\r\n\r\n" + extra, whole: true, want: "204; open | GET /", got: []string{"!smuggled"}},
		{name: "another behind a 304 with a length", rule: "6.3 1, 9.2", send: ask, answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\n\r\n" + extra, whole: true, want: "304; open | GET /", got: []string{"!smuggled"}},
		{name: "content of a HEAD", rule: "6.3 1, 9.2", send: "HEAD http://{o}/ HTTP/1.1\r\nHost: x\r\n\r\n", answer: line + "Content-Length: 50" + end + extra, whole: true, want: "200; open | HEAD /", got: []string{"!smuggled"}},
		{name: "content of a 204", rule: "6.3 1, 9.2", send: ask, answer: "HTTP/1.1 204 No Content\r\n" + chunks, whole: true, want: "204; open | GET /", got: []string{"!ok"}},

		// Before the final response.
		{name: "103", rule: "RFC 9110 15.2", send: ask, answer: hints(1) + line + two, want: "103, 200 ok; open | GET /", got: []string{"X-H: 1\r\n"}},
		{name: "103, client of HTTP/1.0", rule: "RFC 9110 15.2", send: old, answer: hints(1) + line + two, want: servedLast},
		{name: "100 unasked", rule: "RFC 9110 15.2", send: ask, answer: "HTTP/1.1 100 Continue\r\n\r\n" + line + two, want: "100, 200 ok; open | GET /"},
		{name: "32 of them", rule: "RFC 9110 15.2", send: ask, answer: hints(32) + line + two, want: strings.Repeat("103, ", 32) + "200 ok; open | GET /"},
		{name: "33 of them", rule: "a bound of our own", send: ask, answer: hints(33) + line + two, want: strings.Repeat("103, ", 32) + "502; closed | GET /",
			known: 12, today: strings.Repeat("103, ", 33) + "200 ok; open | GET /"},
		{name: "101 unasked", rule: "RFC 9110 15.2.2", send: ask, answer: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", want: lost},

		{name: "101", rule: "RFC 9110 7.8, RFC 6455 4.2.2", send: plainHead + "Connection: Upgrade\r\nUpgrade: websocket" + end,
			answer: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nhello", answerEnd: fins,
			want: "101, hello; closed | GET /", got: []string{"Sec-WebSocket-Accept: x\r\n"},
			known: 12, today: `101, hello; closed | GET /, but "Sec-WebSocket-Accept: x\r\n"`},

		// Times.
		{name: "before the content is there", rule: "9.6", send: postHead + "Content-Length: 3000000" + end + strings.Repeat("x", 3_000_000), whole: true,
			answer: "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno", answerEnd: fins, early: true, want: "403; closed |",
			known: 12, today: "403; closed unannounced | or 403; open | or 403; reset |"},
		{name: "waited for by nobody", rule: "RFC 9110 9.2.2", send: ask, after: closes, answer: never, within: 2 * time.Second, whole: true,
			want: "; left | GET /", sessions: 1, known: 12, today: "; left | GET /, (hangs)"},

		// The status line.
		{name: "no reason", rule: "4", send: ask, answer: "HTTP/1.1 200 \r\n" + two, want: served},
		{name: "no reason and no blank", rule: "4", send: ask, answer: "HTTP/1.1 200\r\n" + two, want: served},
		{name: "reason with bytes over 127", rule: "4", send: ask, answer: "HTTP/1.1 200 \xc3\xa4\r\n" + two, want: served},
		{name: "status 299", rule: "RFC 9110 15", send: ask, answer: "HTTP/1.1 299 Other\r\n" + two, want: "299 ok; open | GET /"},
		{name: "status 600", rule: "RFC 9110 15", send: ask, answer: "HTTP/1.1 600 Six\r\n" + two, want: "600; open | GET /"},
		{name: "status 99", rule: "RFC 9110 15", send: ask, answer: "HTTP/1.1 099 Low\r\n" + two, want: lost},
		{name: "status 20", rule: "4", send: ask, answer: "HTTP/1.1 20 OK\r\n" + two, want: lost},
		{name: "status 2000", rule: "4", send: ask, answer: "HTTP/1.1 2000 OK\r\n" + two, want: lost},
		{name: "status abc", rule: "4", send: ask, answer: "HTTP/1.1 abc OK\r\n" + two, want: lost},
		{name: "HTTP/1.0", rule: "RFC 9110 2.5", send: ask, answer: "HTTP/1.0 200 OK\r\n" + two, want: served, got: []string{"!HTTP/1.0"}},
		{name: "HTTP/1.2", rule: "RFC 9110 2.5", send: ask, answer: "HTTP/1.2 200 OK\r\n" + two, want: served},
		{name: "http/1.1", rule: "2.3, forgiven", send: ask, answer: "http/1.1 200 OK\r\n" + two, want: served, known: 12, today: lost},
		{name: "ICY", rule: "2.3; curl refuses it, too", send: ask, answer: "ICY 200 OK\r\nContent-Type: audio/mpeg\r\n\r\nok", answerEnd: fins, want: lost},
		{name: "no HTTP", rule: "2.3", send: ask, answer: "SSH-2.0-OpenSSH_9.9\r\n", want: lost},
		{name: "nothing", rule: "RFC 9110 15.6.3", send: ask, answer: "\r", answerEnd: fins, want: lost},
		{name: "empty line first", rule: "4, forgiven by none", send: ask, answer: "\r\n" + line + two, want: lost},
		{name: "two status lines", rule: "5, forgiven", send: ask, answer: line + line + two, want: served, known: 12, today: lost},

		// Framing.
		{name: "length twice, alike", rule: "6.3 5", send: ask, answer: framed("Content-Length: 2\r\nContent-Length: 2"), want: served},
		{name: "length twice, unlike", rule: "6.3 5", send: ask, answer: framed("Content-Length: 2\r\nContent-Length: 3"), want: lost},
		{name: "length 2, 2", rule: "RFC 9110 8.6", send: ask, answer: framed("Content-Length: 2, 2"), want: served, known: 12, today: lost},
		{name: "length 2, 3", rule: "6.3 5", send: ask, answer: framed("Content-Length: 2, 3"), want: lost},
		{name: "length +2", rule: "6.3 5", send: ask, answer: framed("Content-Length: +2"), want: lost},
		{name: "length -2", rule: "6.3 5", send: ask, answer: framed("Content-Length: -2"), want: lost},
		{name: "length 2^64+2", rule: "RFC 9110 8.6", send: ask, answer: framed("Content-Length: 18446744073709551618"), want: lost},
		{name: "length and chunked", rule: "6.3 3", send: ask, answer: line + "Content-Length: 9\r\n" + chunks, want: served, got: []string{"!Content-Length: 9"}},
		{name: "bad length and chunked", rule: "6.3 5", send: ask, answer: line + "Content-Length: x\r\n" + chunks, want: lost},
		{name: "chunked twice", rule: "6.1, forgiven", send: ask, answer: line + "Transfer-Encoding: chunked\r\n" + chunks, want: served, known: 12, today: lost},
		{name: "identity", rule: "RFC 2616 3.6, forgiven", send: ask, answer: framed("Transfer-Encoding: identity\r\nContent-Length: 2"), want: served, known: 12, today: lost},
		{name: "gzip, chunked", rule: "6.1", send: ask, answer: line + "Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", want: lost},
		{name: "chunked in HTTP/1.0", rule: "6.1, forgiven", send: ask, answer: "HTTP/1.0 200 OK\r\n" + chunks, answerEnd: fins, want: served,
			known: 12, today: "200 2\r\nok\r\n0\r\n\r\n; open | GET /"},
		{name: "size g", rule: "7.1", send: ask, answer: chunked("g\r\n"), want: broken},
		{name: "size -2", rule: "7.1", send: ask, answer: chunked("-2\r\nok\r\n0\r\n\r\n"), want: broken},
		{name: "size 2^64+2", rule: "7.1", send: ask, answer: chunked("10000000000000002\r\nok\r\n0\r\n\r\n"), want: broken},
		{name: "chunk longer than its size", rule: "7.1", send: ask, answer: chunked("2\r\noke\r\n0\r\n\r\n"), want: "200 ok (cut); reset | GET /"},
		{name: "extension", rule: "7.1.1", send: ask, answer: chunked("2;a=\"b\"\r\nok\r\n0;c\r\n\r\n"), want: served},
		{name: "blank before an extension", rule: "7.1.1, RFC 9110 5.6.3", send: ask, answer: chunked("2 ; a\r\nok\r\n0\r\n\r\n"), want: served, known: 12, today: broken},
		{name: "trailers", rule: "7.1.2", send: ask, answer: line + "Trailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n", want: served, got: []string{"X-T: 1\r\n"}},
		{name: "length as a trailer", rule: "6.5.1 of RFC 9110", send: ask, answer: chunked("2\r\nok\r\n0\r\nContent-Length: 9\r\n\r\n"), want: served, got: []string{"!Content-Length: 9"}},

		// Field lines.
		{name: "blank before a colon", rule: "5.1", send: ask, answer: with("X-A : b"), want: served, got: []string{"X-A: b\r\n"},
			known: 12, today: served + `, but "X-A: b\r\n"`},
		{name: "blank before the length's colon", rule: "5.1", send: ask, answer: framed("Content-Length : 2"), answerEnd: fins, want: served, got: []string{"Content-Length: 2\r\n"},
			known: 12, today: served + `, but "Content-Length: 2\r\n"`},
		{name: "folded", rule: "5.2", send: ask, answer: with("X-A: b\r\n c"), want: served, got: []string{"X-A: b c\r\n"}},
		{name: "no colon", rule: "5, forgiven", send: ask, answer: with("X-A b"), want: served, known: 12, today: lost},
		{name: "no name", rule: "5, forgiven", send: ask, answer: with(": b"), want: served, known: 12, today: lost},
		{name: "typographic hyphen in a name", rule: "5.1, forgiven", send: ask, answer: with("X\u2010A: b"), want: served, got: []string{"!\u2010"}, known: 12, today: lost},
		{name: "blank in a name", rule: "5.1, forgiven", send: ask, answer: with("X A: b"), want: served, got: []string{"!X A"}},
		{name: "control character in a value", rule: "RFC 9110 5.5", send: ask, answer: with("X-A: b\x01c"), want: served, known: 12, today: lost},
		{name: "bare CR in a value", rule: "2.2", send: ask, answer: with("X-A: b\rc"), want: served, known: 12, today: lost},
		{name: "NUL in a value", rule: "RFC 9110 5.5", send: ask, answer: with("X-A: b\x00c"), want: served, known: 12, today: lost},
		{name: "bytes over 127 in a value", rule: "RFC 9110 5.5", send: ask, answer: with("X-A: \xe4"), want: served, got: []string{"X-A: \xe4\r\n"}},
		{name: "bare LF ends all lines", rule: "2.2", send: ask, answer: "HTTP/1.1 200 OK\nContent-Length: 2\nX-A: b\n\nok", want: served, got: []string{"X-A: b\r\n"}},
		{name: "empty value", rule: "RFC 9110 5.5", send: ask, answer: with("X-A:"), want: served, got: []string{"X-A:"}},
		{name: "names as they came", rule: "RFC 9110 5.1", send: ask, answer: with("x-ALL-lower: b"), want: served, got: []string{"x-ALL-lower: b\r\n"}, known: 12, today: served + `, but "x-ALL-lower: b\r\n"`},
		{name: "cookies", rule: "RFC 9110 5.3", send: ask, answer: with("Set-Cookie: a\r\nSet-Cookie: b"), want: served, got: []string{"Set-Cookie: a\r\nSet-Cookie: b\r\n"}},
		{name: "nothing is guessed", rule: "RFC 9110 8.3", send: ask, answer: line + two, want: served, got: []string{"!Content-Type", "!Server"}},
		{name: "a date is added", rule: "RFC 9110 6.6.1", send: ask, answer: line + two, want: served, got: []string{"Date: "}},
		{name: "for this hop only", rule: "RFC 9110 7.6.1", send: ask, answer: with("Connection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: 3\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nProxy-Authenticate: Basic"), answerEnd: fins,
			want: served, got: []string{"!X-Hop", "!Keep-Alive: 3", "!Proxy-", "!Upgrade"}},
		{name: "for this hop only, folded", rule: "RFC 9110 7.6.1", send: ask, answer: with("Connection: close,\r\n X-Hop\r\nX-Hop: 1"), answerEnd: fins, want: served, got: []string{"!X-Hop"},
			known: 12, today: served + `, but "!X-Hop"`},
		{name: "Connection names the length", rule: "RFC 9110 7.6.1", send: ask, answer: with("Connection: Content-Length"), want: served},
		{name: "one field of 100,000 bytes", rule: "5, RFC 9110 5.4", send: ask, answer: with("X-A: " + strings.Repeat("a", 100_000)), want: served, whole: true},
		{name: "fields of 4 MB", rule: "5", send: ask, answer: with(strings.Repeat("X-Many: 1\r\n", 400_000) + "X: y"), want: lost, whole: true},
	}
}
