package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// wholeInputs are what clients say, from the first byte to the last.
var wholeInputs = []struct {
	name, send string
	served     string // what becomes of the whole, with a FIN behind it
}{
	{"SOCKS4", "\x04\x01{P}\x7f\x00\x00\x01user\x00", "granted; closed |"},
	{"SOCKS4a", "\x04\x01{P}\x00\x00\x00\x01user\x00localhost\x00", "granted; closed |"},
	{"SOCKS5", "\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01{P}", "method 0, granted; closed |"},
	{"SOCKS5, IPv6", "\x05\x01\x00\x05\x01\x00\x04" + strings.Repeat("\x00", 10) + "\xff\xff\x7f\x00\x00\x01{P}", "method 0, granted; closed |"},
	{"SOCKS5, name", "\x05\x02\x00\x02\x05\x01\x00\x03\x09localhost{P}", "method 0, granted; closed |"},
	{"SOCKS5, password", "\x05\x01\x02\x01\x04user\x04pass\x05\x01\x00\x01\x7f\x00\x00\x01{P}", "method 2, password 0100, granted; closed |"},
	{"CONNECT", "CONNECT {o} HTTP/1.1\r\nHost: {o}\r\n\r\n", "200; closed |"},
	{"GET", plainHead + "X-A: b" + end, servedLast},
	{"GET, HTTP/1.0", "GET http://{o}/ HTTP/1.0\r\n\r\n", servedLast},
	{"POST", postHead + "Content-Length: 10" + end + "0123456789", "200 ok; closed | POST / 0123456789"},
	{"POST in chunks", postHead + chunkedTE + end + "3;x=y\r\n012\r\n7\r\n3456789\r\n0\r\nX-T: 1\r\n\r\n", "200 ok; closed | POST / 0123456789"},
	{"POST, expecting", postHead + "Expect: 100-continue\r\nContent-Length: 10" + end + "0123456789", "100, 200 ok; closed | POST / 0123456789"},
}

// cutRequests ends what a client says at every offset, in each of the ways to end. What was not said to its end is not
// served: nothing whole reaches an origin, nothing is granted, nothing is held (RFC 9112 section 8; RFC 1928 sections 3
// to 6, whose messages have lengths of their own).
func (g *gauntlet) cutRequests(t *testing.T) {
	var cases []wire
	for _, in := range wholeInputs {
		// The ports that a system gives out have five digits.
		n := len(strings.NewReplacer("{o}", "127.0.0.1:00000", "{P}", "00").Replace(in.send))
		head := strings.Index(strings.ReplaceAll(in.send, "{o}", "127.0.0.1:00000"), end) + len(end)
		isHTTP := in.send[0] > 5
		for _, how := range []ending{fins, closes, resets} {
			for cut := 1; cut < n; cut++ {
				w := wire{name: fmt.Sprintf("%s, %s after %d of %d", in.name, how, cut, n), send: in.send, cut: cut, after: how, sessions: -1}
				if isHTTP && cut >= head {
					w.sessions = 1
				}
				cases = append(cases, w)
			}
		}
		cases = append(cases, wire{name: in.name + ", whole", rule: "RFC 9112 9.6", send: in.send, after: fins, want: in.served})
	}
	g.sweep(t, cases, func(w *wire, o *outcome) bool {
		if w.cut == 0 {
			return o.String() == w.want
		}
		for _, got := range o.got {
			if strings.HasPrefix(got, "2") || got == "granted" {
				return false
			}
		}
		return len(o.reached) == 0 && (o.end == "left" || o.end == "closed" || o.end == "reset")
	})
}

// sweep holds many conversations and says which are not right.
func (g *gauntlet) sweep(t *testing.T, cases []wire, right func(*wire, *outcome) bool) {
	t.Helper()
	var mu sync.Mutex
	wrong := 0
	together(len(cases), func(i int) {
		w := &cases[i]
		o := g.run(t, w, false)
		if right(w, &o) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if wrong++; wrong <= 20 {
			t.Errorf("%s: %s", w.name, o.String())
		}
	})
	t.Logf("%d conversations, %d wrong", len(cases), wrong)
}

// cutResponses ends what an origin says at every offset. A client never takes a part for the whole (RFC 9112 section 8).
func (g *gauntlet) cutResponses(t *testing.T) {
	const (
		head    = "HTTP/1.1 200 OK\r\nX-A: b\r\n"
		ask     = plainHead + "Connection: close" + end
		old     = "GET http://{o}/ HTTP/1.0\r\n\r\n"
		chunks  = head + chunkedTE + end + "3;x\r\n012\r\n7\r\n3456789\r\n0\r\nX-T: 1\r\n\r\n"
		length  = head + "Content-Length: 10" + end + "0123456789"
		toEnd   = head + "\r\n0123456789"
		hinted  = "HTTP/1.1 103 Early Hints\r\nX-H: 1\r\n\r\n" + length
		content = "0123456789"
	)
	var cases []wire
	for name, answer := range map[string]string{"length": length, "chunks": chunks, "to the end": toEnd, "hinted": hinted} {
		for version, send := range map[string]string{"1.1": ask, "1.0": old} {
			for _, how := range []ending{fins, resets} {
				for cut := range len(answer) {
					cases = append(cases, wire{
						name: fmt.Sprintf("%s to HTTP/%s, %s after %d", name, version, how, cut), send: send,
						answer: answer[:cut], answerEnd: how, want: "200", sessions: 1,
					})
				}
			}
		}
	}
	g.sweep(t, cases, func(w *wire, o *outcome) bool {
		last := o.got[len(o.got)-1]
		if last == "200 "+content { // whole, and so was what came, or as good as that
			return strings.HasSuffix(w.answer, content) && w.answerEnd == fins || strings.Contains(w.answer, "\r\n0\r\n")
		}
		if strings.HasPrefix(last, "502") {
			return o.end == "closed" && !strings.Contains(strings.TrimPrefix(w.answer, "HTTP/1.1 103 Early Hints\r\nX-H: 1\r\n\r\n"), end)
		}
		if strings.Contains(w.name, "to the end") && w.answerEnd == fins {
			return o.end == "closed"
		}
		return strings.HasSuffix(last, "(cut)") && o.end == "reset"
	})
}
