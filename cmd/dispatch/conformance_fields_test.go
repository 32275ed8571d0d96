package main

import "strings"

// Fields of requests and what frames their content: what must be refused, what must not get any further, and nothing that
// two readers could read in two ways. The rules are sections of RFC 9112, where they do not say otherwise.
func fieldCases() []wire {
	const (
		second  = "GET http://{o}/smuggled HTTP/1.1\r\nHost: {o}\r\n\r\n"
		chunks  = "2\r\nok\r\n0\r\n\r\n"
		chunked = "Transfer-Encoding: chunked\r\n\r\n"
	)
	length := func(value string) string { return postHead + "Content-Length:" + value + "\r\n\r\nok" }
	coding := func(field string) string { return postHead + field + end + chunks }
	chunk := func(data string) string { return postHead + chunked + data }
	field := func(f string) string { return plainHead + f + end }
	return []wire{
		// Content-Length.
		{name: "length", rule: "6.2", send: length(" 2"), want: posted},
		{name: "length 0", rule: "6.2", send: postHead + "Content-Length: 0" + end, want: "200 ok; open | POST /", reached: []string{"Content-Length: 0\r\n"}},
		{name: "no length", rule: "6.3", send: postHead + "\r\n", want: "200 ok; open | POST /"},
		{name: "no length, HTTP/1.0", rule: "RFC 1945 8.3", send: "POST http://{o}/ HTTP/1.0\r\n\r\n", want: "411; closed |"},
		{name: "length, HTTP/1.0", rule: "6.2", send: "POST http://{o}/ HTTP/1.0\r\nContent-Length: 2\r\n\r\nok", want: "200 ok; closed | POST / ok"},
		{name: "length with zeros", rule: "RFC 9110 8.6", send: length(" 002"), want: posted},
		{name: "length of a GET", rule: "RFC 9110 9.3.1", send: plainHead + "Content-Length: 2\r\n\r\nok", want: "200 ok; open | GET / ok"},
		{name: "length +2", rule: "6.3 5", send: length(" +2"), want: badRequest},
		{name: "length -2", rule: "6.3 5", send: length(" -2"), want: badRequest},
		{name: "length 0x2", rule: "6.3 5", send: length(" 0x2"), want: badRequest},
		{name: "length 2_0", rule: "6.3 5", send: length(" 2_0"), want: badRequest},
		{name: "length 2a", rule: "6.3 5", send: length(" 2a"), want: badRequest},
		{name: "length 2 2", rule: "6.3 5", send: length(" 2 2"), want: badRequest},
		{name: "length 1e1", rule: "6.3 5", send: length(" 1e1"), want: badRequest},
		{name: "length 2.0", rule: "6.3 5", send: length(" 2.0"), want: badRequest},
		{name: "length empty", rule: "6.3 5", send: length(""), want: badRequest},
		{name: "length 2^63", rule: "RFC 9110 8.6", send: length(" 9223372036854775808"), want: badRequest},
		{name: "length 2^64+2", rule: "RFC 9110 8.6", send: length(" 18446744073709551618"), want: badRequest},
		{name: "length behind a form feed", rule: "6.3 5", send: length(" \f2"), want: badRequest},
		{name: "length twice, alike", rule: "6.3 5, RFC 9110 8.6", send: length(" 2\r\nContent-Length: 2"), want: posted},
		{name: "length twice, unlike", rule: "6.3 5", send: length(" 2\r\nContent-Length: 3"), want: badRequest},
		{name: "length 2, 2", rule: "6.3 5, RFC 9110 8.6, either", send: length(" 2, 2"), want: badRequest},
		{name: "length 2, 3", rule: "6.3 5", send: length(" 2, 3"), want: badRequest},
		{name: "length before a colon", rule: "5.1", send: postHead + "Content-Length : 2\r\n\r\nok", want: badRequest},
		{name: "length with an underscore", rule: "5.1", send: postHead + "Content_Length: 2\r\n\r\n", want: "200 ok; open | POST /"},

		// Transfer-Encoding.
		{name: "chunked", rule: "7.1", send: coding(chunkedTE), want: posted},
		{name: "CHUNKED", rule: "7", send: coding("Transfer-Encoding: CHUNKED"), want: posted},
		{name: "chunked behind a tab", rule: "5.1", send: coding("Transfer-Encoding:\tchunked \t"), want: posted},
		{name: "chunked, then length", rule: "6.1, 6.3 3", send: postHead + chunkedTE + "\r\nContent-Length: 5" + end + "0\r\n\r\n" + second,
			want: "200 ok; closed | POST /", known: 12, today: "200 ok, 200 ok; open | POST /, GET /smuggled"},
		{name: "length, then chunked", rule: "6.1, 6.3 3", send: postHead + "Content-Length: 5\r\n" + chunked + "0\r\n\r\n" + second,
			want: "200 ok; closed | POST /", known: 12, today: "200 ok, 200 ok; open | POST /, GET /smuggled"},
		{name: "bad length beside chunked", rule: "6.3 3", send: postHead + "Content-Length: x\r\n" + chunked + chunks, want: badRequest},
		{name: "chunked twice", rule: "6.1", send: coding("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), want: "501; closed |"},
		{name: "chunked, chunked", rule: "6.1", send: coding("Transfer-Encoding: chunked, chunked"), want: "501; closed |"},
		{name: "identity", rule: "6.1; 6.3 4 has a 400", send: coding("Transfer-Encoding: identity"), want: "501; closed |"},
		{name: "identity and length", rule: "6.1; 6.3 4 has a 400", send: postHead + "Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok", want: "501; closed |"},
		{name: "gzip", rule: "6.1; 6.3 4 has a 400", send: coding("Transfer-Encoding: gzip"), want: "501; closed |"},
		{name: "chunked, gzip", rule: "6.1; 6.3 4 has a 400", send: coding("Transfer-Encoding: chunked, gzip"), want: "501; closed |"},
		{name: "gzip, chunked", rule: "6.1", send: coding("Transfer-Encoding: gzip, chunked"), want: "501; closed |"},
		{name: "xchunked", rule: "6.1", send: coding("Transfer-Encoding: xchunked"), want: "501; closed |"},
		{name: "chunked in quotes", rule: "7", send: coding(`Transfer-Encoding: "chunked"`), want: "501; closed |"},
		{name: "chunked with a parameter", rule: "7", send: coding("Transfer-Encoding: chunked;a=b"), want: "501; closed |"},
		{name: "empty coding", rule: "RFC 9110 5.6.1", send: coding("Transfer-Encoding:"), want: "501; closed |"},
		{name: "chunked behind a comma", rule: "RFC 9110 5.6.1", send: coding("Transfer-Encoding: , chunked"), want: "501; closed |"},
		{name: "chunked behind a vertical tab", rule: "RFC 9110 5.5", send: coding("Transfer-Encoding: \vchunked"), want: badRequest},
		{name: "chunked before a NUL", rule: "RFC 9110 5.5", send: coding("Transfer-Encoding: chunked\x00"), want: badRequest},
		{name: "chunked before a colon", rule: "5.1", send: coding("Transfer-Encoding : chunked"), want: badRequest},
		{name: "chunked on the next line", rule: "5.2", send: coding("Transfer-Encoding:\r\n chunked"), want: posted},
		{name: "chunked behind a bare CR", rule: "2.2", send: coding("X: y\rTransfer-Encoding: chunked"), want: badRequest},
		{name: "chunked behind a bare LF", rule: "2.2", send: coding("X: y\nTransfer-Encoding: chunked"), want: posted},
		{name: "chunked, HTTP/1.0", rule: "6.1", send: "POST http://{o}/ HTTP/1.0\r\n" + chunked + chunks, want: "411; closed |"},
		{name: "chunked and length, HTTP/1.0", rule: "6.1", send: "POST http://{o}/ HTTP/1.0\r\nContent-Length: 12\r\n" + chunked + chunks, want: badRequest,
			known: 12, today: "200 ok; closed | POST / 2\r\nok\r\n0"},
		{name: "chunked GET, HTTP/1.0", rule: "6.1", send: "GET http://{o}/ HTTP/1.0\r\n" + chunked + "0\r\n\r\n" + second, want: badRequest,
			known: 12, today: "200 ok; closed | GET /"},

		// Chunks.
		{name: "trailers", rule: "7.1.2", send: chunk("2\r\nok\r\n0\r\nX-T: 1\r\n\r\n"), want: posted, reached: []string{"X-T: 1\r\n"}},
		{name: "length as a trailer", rule: "6.5.1 of RFC 9110", send: chunk("2\r\nok\r\n0\r\nContent-Length: 9\r\nHost: x\r\n\r\n"), want: posted, reached: []string{"!Content-Length", "!Host: x"}},
		{name: "bad trailer", rule: "7.1.2, 5", send: chunk("2\r\nok\r\n0\r\nX T\r\n\r\n"), want: badRequest},
		{name: "size with zeros", rule: "7.1", send: chunk("0002\r\nok\r\n00\r\n\r\n"), want: posted},
		{name: "size in capitals", rule: "7.1", send: chunk("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"), want: "200 ok; open | POST / 01234567890123456789"},
		{name: "extension", rule: "7.1.1", send: chunk("2;a=b\r\nok\r\n0;c\r\n\r\n"), want: posted},
		{name: "extension in quotes", rule: "7.1.1", send: chunk("2;a=\"b;\\\"c\"\r\nok\r\n0\r\n\r\n"), want: posted},
		{name: "blanks around an extension", rule: "7.1.1, RFC 9110 5.6.3", send: chunk("2 ;\ta = b\r\nok\r\n0\r\n\r\n"), want: posted, known: 12, today: badRequest},
		{name: "bare CR in an extension", rule: "2.2", send: chunk("2;\ra\r\nok\r\n0\r\n\r\n"), want: badRequest},
		{name: "bare LF in an extension", rule: "7.1.1", send: chunk("2;a\nok\r\n0\r\n\r\n"), want: badRequest},
		{name: "extensions of 100,000 bytes", rule: "7.1.1", send: chunk("2;" + strings.Repeat("a", 100_000) + "\r\nok\r\n0\r\n\r\n"), want: badRequest, whole: true},
		{name: "size g", rule: "7.1", send: chunk("g\r\nok\r\n0\r\n\r\n"), want: badRequest},
		{name: "size +2", rule: "7.1", send: chunk("+2\r\nok\r\n0\r\n\r\n"), want: badRequest},
		{name: "size -2", rule: "7.1", send: chunk("-2\r\nok\r\n0\r\n\r\n"), want: badRequest},
		{name: "size 0x2", rule: "7.1", send: chunk("0x2\r\nok\r\n0\r\n\r\n"), want: badRequest},
		{name: "size behind a blank", rule: "7.1", send: chunk(" 2\r\nok\r\n0\r\n\r\n"), want: badRequest},
		{name: "size empty", rule: "7.1", send: chunk("\r\nok\r\n0\r\n\r\n"), want: badRequest},
		{name: "size 2^64+2", rule: "7.1", send: chunk("10000000000000002\r\nok\r\n0\r\n\r\n"), want: badRequest},
		{name: "chunk longer than its size", rule: "7.1", send: chunk("2\r\noke\r\n0\r\n\r\n"), want: badRequest},
		{name: "chunk shorter than its size", rule: "7.1", send: chunk("3\r\nok\r\n0\r\n\r\n"), want: badRequest},
		{name: "no line end behind a chunk", rule: "7.1", send: chunk("2\r\nok0\r\n\r\n"), want: badRequest},
		{name: "bare LF behind a chunk", rule: "2.2, 7.1", send: chunk("2\r\nok\n0\r\n\r\n"), want: badRequest},
		{name: "bare LF behind a size", rule: "2.2, 7.1", send: chunk("2\nok\r\n0\r\n\r\n"), want: badRequest},
		{name: "second request in the content", rule: "6.3", send: length(" 44\r\n\r\nGET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n..."), want: "200 ok; open | POST / G..."},

		// A refusal arrives, whatever the client is still sending (9.6).
		{name: "refused with content", rule: "9.6", send: postHead + "X A: b\r\nContent-Length: 3000000" + end + strings.Repeat("x", 3_000_000), whole: true, want: badRequest},
		{name: "refused second, with content", rule: "9.6", send: plainHead + "\r\n" + postHead + "X A: b\r\nContent-Length: 3000000" + end + strings.Repeat("x", 3_000_000), whole: true, want: "200 ok, 400; closed | GET /"},
		{name: "refused CONNECT, with content", rule: "9.6", send: "CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\n\r\n" + strings.Repeat("x", 3_000_000), whole: true, want: "502; closed |"},
		{name: "unreachable, with content", rule: "9.6", send: "POST http://127.0.0.1:1/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + strings.Repeat("x", 3_000_000), whole: true, want: "502; closed |"},

		// Field lines.
		{name: "blank before a colon", rule: "5.1", send: field("X-A : b"), want: badRequest},
		{name: "blank in a name", rule: "5.1", send: field("X A: b"), want: badRequest},
		{name: "no colon", rule: "5", send: field("X-A"), want: badRequest},
		{name: "no name", rule: "5", send: field(": b"), want: badRequest},
		{name: "name is no token", rule: "5.1", send: field("X(A: b"), want: badRequest},
		{name: "blank before the first field", rule: "2.2", send: "GET http://{o}/ HTTP/1.1\r\n Host: {o}\r\nHost: {o}\r\n\r\n", want: badRequest},
		{name: "folded", rule: "5.2", send: field("X-A: b\r\n c\r\n\td"), want: served, reached: []string{"X-A: b c d\r\n"}},
		{name: "bare CR in a value", rule: "2.2", send: field("X-A: b\rc"), want: badRequest},
		{name: "NUL in a value", rule: "RFC 9110 5.5", send: field("X-A: b\x00c"), want: badRequest},
		{name: "control character in a value", rule: "RFC 9110 5.5", send: field("X-A: b\x01c"), want: badRequest},
		{name: "bytes over 127 in a value", rule: "RFC 9110 5.5", send: field("X-A: \xe4\xc3\xa4"), want: served, reached: []string{"X-A: \xe4\xc3\xa4\r\n"}},
		{name: "bare LF ends all lines", rule: "2.2, may", send: "GET http://{o}/ HTTP/1.1\nHost: {o}\nX-A: b\n\n", want: served, reached: []string{"X-A: b\r\n"}},
		{name: "value trimmed", rule: "5.1", send: field("X-A: \t b \t"), want: served, reached: []string{"X-A: b\r\n"}},
		{name: "empty value", rule: "RFC 9110 5.5", send: field("X-A:"), want: served, reached: []string{"X-A:"}},
		{name: "fields of one name", rule: "RFC 9110 5.3", send: field("X-A: 1\r\nX-A: 2"), want: served, reached: []string{"X-A: 1\r\nX-A: 2\r\n"}},
		{name: "for this hop only", rule: "RFC 9110 7.6.1", send: field("Connection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: 3\r\nProxy-Connection: x\r\nProxy-Authorization: Basic YTpi\r\nUpgrade: h2c\r\nTE: gzip"),
			want: servedLast, reached: []string{"!X-Hop", "!Keep-Alive", "!Proxy-", "!Upgrade", "!TE:", "!Te:", "!Connection"}},
		{name: "Connection names Host", rule: "RFC 9110 7.6.1", send: field("Connection: Host"), want: served, reached: []string{"Host: {o}\r\n"}},
		{name: "Connection names the length", rule: "RFC 9110 7.6.1", send: postHead + "Connection: Content-Length\r\nContent-Length: 2\r\n\r\nok", want: posted},
		{name: "Connection names the coding", rule: "RFC 9110 7.6.1", send: postHead + "Connection: Transfer-Encoding\r\n" + chunked + chunks, want: posted},
		{name: "Pragma alone", rule: "RFC 9110 7.7", send: field("Pragma: no-cache"), want: served, reached: []string{"Pragma: no-cache\r\n", "!Cache-Control"},
			known: 12, today: served + `, but "!Cache-Control"`},
		{name: "names of WebSocket", rule: "RFC 6455 4.1, 11.3", send: field("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x"), want: served, reached: []string{"Sec-WebSocket-Key: x\r\n", "Upgrade: websocket\r\n"},
			known: 12, today: served + `, but "Sec-WebSocket-Key: x\r\n"`},
		{name: "Expect", rule: "RFC 9110 10.1.1", send: postHead + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nok", want: "100, 200 ok; open | POST / ok"},
		{name: "Expect, HTTP/1.0", rule: "RFC 9110 10.1.1", send: "POST http://{o}/ HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok", want: "200 ok; closed | POST / ok"},
		{name: "unknown expectation", rule: "RFC 9110 10.1.1", send: field("Expect: more"), want: "417; closed |"},
	}
}
