package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dispatch/testdata/loopback"
)

// wire is one conversation of a client with the gateway, and what is right about it.
type wire struct {
	name string
	rule string // what it is held against: the section of an RFC, or of a memo

	// send is what the client says. In it {o} is the origin's host and port, {P} the two bytes of that port, {p} its
	// digits; {own} and {OWN} are those of the gateway's listener.
	send  string
	after ending // of the client
	// answer and answerEnd are the origin's, to every request; two zero values are okAnswer. It answers early when it
	// does not wait for the content.
	answer    string
	answerEnd ending
	early     bool

	// want is "what the client got; how it ended | what reached the origin", as in "200 ok; open | GET /", or this or that.
	want string
	// reached and got are texts that the heads at the origin and the client's input hold, or do not if they begin
	// with "!".
	reached, got []string

	// within is how long it may take until nothing is left at the origin; 0 is wirePatience.
	within time.Duration

	// known is the issue that mends it if it is not right today, and today what is seen instead, or this or that.
	known int
	today string
	// cut, if it is not 0, is how many bytes of what the client says it says; sessions, if it is not 0, how many records
	// there are to be: none for -1.
	cut, sessions int
	// whole keeps the case from being repeated byte by byte: it is too long, or about what comes in one piece.
	whole bool
}

// gauntlet is the program that all conversations are held with, and the accounts of them.
type gauntlet struct {
	*process
	base     int // descriptors, when nobody is served
	mu       sync.Mutex
	sessions map[string][2]int // by the client's address: the fewest and the most records there may be
	names    map[string]string
}

// outcome is what is seen of a conversation.
type outcome struct {
	got     []string // responses, or what a SOCKS reply says
	end     string
	raw     string // all that the client got
	reached []string
	heads   string
	fewest  int // records of sessions
	most    int
}

func (o *outcome) String() string {
	return strings.TrimSpace(strings.Join(o.got, ", ") + "; " + o.end + " | " + strings.Join(o.reached, ", "))
}

// failures are the statuses that tell of a session that did not come to carry anything. What is refused with another
// has not become one, or one only before its content was seen to be wrong.
const failures = " 403 502 503 504 "

// run holds the conversation.
func (g *gauntlet) run(t testing.TB, w *wire, bytewise bool) outcome {
	at, other, socks := g.http, g.socks, strings.ContainsAny(w.send[:1], "\x04\x05")
	if socks {
		at, other = other, at
	}
	o := &wireOrigin{listener: loopback.Listen(t), answer: w.answer, after: w.answerEnd, early: w.early, bytewise: bytewise}
	o.raw = socks || strings.Contains(w.send[:min(16, len(w.send))], "CONNECT")
	if o.answer == "" && o.after == stays {
		o.answer = okAnswer
	}
	o.serve()
	defer o.close()
	c := &wireClient{w: w, origin: o.listener.Addr().String(), sent: make(chan struct{})}
	conn, err := net.Dial("tcp", at)
	if err != nil {
		return outcome{end: err.Error()}
	}
	c.conn = conn.(*net.TCPConn)
	defer conn.Close()
	c.br = bufio.NewReader(c)
	if err := conn.SetDeadline(time.Now().Add(wirePatience)); err != nil {
		return outcome{end: err.Error()}
	}
	go func() {
		defer close(c.sent)
		// What ends the sending shows in what the client gets.
		_ = pieces(conn, c.says(at, other), bytewise)
		if w.within > 0 {
			o.await(wirePatience)
		}
		if w.after != stays {
			_ = w.after.end(c.conn)
		}
	}()
	switch {
	case w.after == closes || w.after == resets:
		<-c.sent
		c.out.end = "left"
		if w.sessions > 0 { // which may have been given up before it led to a connection
			o.await(20 * time.Millisecond)
		}
	case socks:
		c.socks()
	default:
		c.http()
	}
	conn.Close()
	<-c.sent
	c.out.raw = c.input.String()
	c.out.reached, c.out.heads = o.reached(cmp.Or(w.within, wirePatience))
	c.out.fewest = max(c.out.fewest, len(c.out.reached))
	c.out.most = max(c.out.most, c.out.fewest)
	if w.sessions != 0 {
		c.out.fewest = max(0, w.sessions)
		c.out.most = c.out.fewest
	}
	if c.out.end == "open" {
		c.out.fewest++
		c.out.most++
	}
	g.account(conn.LocalAddr().String(), w.name, c.out)
	c.complain()
	return c.out
}

// account notes how many records this client's sessions have to leave. A port may come twice.
func (g *gauntlet) account(client, name string, o outcome) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.sessions[client]
	g.sessions[client] = [2]int{n[0] + o.fewest, n[1] + o.most}
	g.names[client] = name
}

// wireClient is the client's side of a conversation.
type wireClient struct {
	w      *wire
	origin string
	conn   *net.TCPConn
	br     *bufio.Reader
	input  strings.Builder
	sent   chan struct{}
	ended  error // what the first read that failed said
	out    outcome
}

// Read keeps what came, and how it ended: of a reset the next reading would know no more.
func (c *wireClient) Read(p []byte) (int, error) {
	n, err := c.conn.Read(p)
	c.input.Write(p[:n])
	if err != nil && c.ended == nil {
		c.ended = err
	}
	return n, err
}

// says is what the client says to the gateway, which listens for it at one address and at others.
func (c *wireClient) says(own, other string) string {
	own, other = own[strings.LastIndex(own, ":")+1:], other[strings.LastIndex(other, ":")+1:]
	text := c.insert(strings.NewReplacer("{own}", own, "{OWN}", port2(own), "{other}", other, "{OTHER}", port2(other)).Replace(c.w.send))
	if c.w.cut > 0 {
		return text[:min(c.w.cut, len(text))]
	}
	return text
}

// insert puts the origin's address where it belongs.
func (c *wireClient) insert(text string) string {
	_, port, _ := net.SplitHostPort(c.origin)
	return strings.NewReplacer("{o}", c.origin, "{p}", port, "{P}", port2(port)).Replace(text)
}

// port2 is a port in two bytes.
func port2(digits string) string {
	n, _ := strconv.Atoi(digits)
	return string([]byte{byte(n >> 8), byte(n)})
}

// finals is how many final responses a text like want promises.
func finals(want string) (n int) {
	want, _, _ = strings.Cut(want, ";")
	for part := range strings.SplitSeq(want, ", ") {
		if len(part) >= 3 && (part[0] >= '2' && part[0] <= '5' || part[:3] == "101") {
			n++
		}
	}
	return n
}

// http reads responses. When all have come that are due, and the connection is to stay open, one more request shows
// whether it is, and that it is at the right place.
func (c *wireClient) http() {
	due, asked := finals(c.w.want), false
	if c.w.known != 0 {
		due = min(due, finals(c.w.today))
	}
	method, _, _ := strings.Cut(strings.TrimLeft(c.w.send, "\r\n"), " ")
	announced := false
	for {
		if due == 0 && !announced && !asked && c.w.after == stays {
			asked = true
			<-c.sent
			// Where the gateway has closed, the next read says so.
			_, _ = io.WriteString(c.conn, c.insert("GET http://{o}"+alivePath+" HTTP/1.1\r\nHost: {o}\r\nConnection: close\r\n\r\n"))
		}
		m, err := readMessage(c.br, true, method, nil)
		if m.start == "" {
			c.end(announced)
			return
		}
		status := m.status()
		if asked && m.body == "alive" {
			c.out.end = "open"
			return
		}
		c.respond(m, err)
		if err != nil {
			c.end(true)
			return
		}
		if status == 101 || method == "CONNECT" && status < 300 && status >= 200 {
			c.tunnel()
			return
		}
		if status >= 200 {
			due, method, announced = max(0, due-1), "GET", m.closes()
		}
	}
}

// respond notes a response. What the gateway says of a failure is its own affair; so is what makes the tables long.
func (c *wireClient) respond(m message, err error) {
	status := m.status()
	text := strconv.Itoa(status)
	if status < 400 && m.body != "" {
		text += " " + brief(m.body)
	}
	switch {
	case err == nil:
	case errors.Is(err, errCut):
		text += " (cut)"
	default:
		text += " (" + err.Error() + ")"
	}
	c.out.got = append(c.out.got, text)
	switch {
	case status < 200 && status != 101:
	case strings.Contains(failures, fmt.Sprintf(" %d ", status)):
		c.out.fewest++
		c.out.most++
	default:
		c.out.most++
	}
}

// socks reads what a SOCKS server says: the method (RFC 1928 section 3), the answer to a password (RFC 1929 section 2),
// and the reply (RFC 1928 section 6; SOCKS4 memo).
func (c *wireClient) socks() {
	if c.w.send[0] == 4 {
		c.reply(c.bytes(8), 0, 90)
		return
	}
	method := c.bytes(2)
	if method == "" {
		c.end(true)
		return
	}
	c.out.got = append(c.out.got, fmt.Sprintf("method %d", method[1]))
	if method[0] != 5 || method[1] == 255 {
		c.end(true)
		return
	}
	if method[1] == 2 {
		if answer := c.bytes(2); answer != "" {
			c.out.got = append(c.out.got, fmt.Sprintf("password %x", answer))
		}
	}
	head := c.bytes(4)
	rest := map[byte]int{1: 4 + 2, 4: 16 + 2}
	if head != "" && (head[2] != 0 || rest[head[3]] == 0) {
		c.out.got = append(c.out.got, fmt.Sprintf("reply %x", head))
		c.end(true)
		return
	}
	if head != "" && c.bytes(rest[head[3]]) == "" {
		c.out.got = append(c.out.got, "half a reply")
	}
	c.reply(head, 5, 0)
}

// bytes reads so many, or none.
func (c *wireClient) bytes(n int) string {
	data := make([]byte, n)
	if _, err := io.ReadFull(c.br, data); err != nil {
		return ""
	}
	return string(data)
}

// reply takes a reply's first bytes, which are to be this version, and a code, which is for success.
func (c *wireClient) reply(head string, version, granted byte) {
	switch {
	case head == "":
		c.end(true)
	case head[0] != version:
		c.out.got = append(c.out.got, fmt.Sprintf("reply %x", head))
		c.end(true)
	case head[1] == granted:
		c.out.fewest++
		c.out.got = append(c.out.got, "granted")
		c.tunnel()
	default:
		// A command or kind of address that is not served makes no session.
		c.out.most++
		c.out.got = append(c.out.got, fmt.Sprintf("refused %d", head[1]))
		c.end(true)
	}
}

// tunnel reads to the end, and says that there is no more to come from here.
func (c *wireClient) tunnel() {
	<-c.sent
	_ = fins.end(c.conn)
	data, _ := io.ReadAll(c.br)
	if len(data) > 0 {
		c.out.got = append(c.out.got, brief(string(data)))
	}
	c.end(true)
}

// end says how the connection ended. An end behind a response has to have been announced (RFC 9112 section 9.6).
func (c *wireClient) end(announced bool) {
	if c.ended == nil { // what came was wrong, and the rest of it does not matter
		_, _ = io.Copy(io.Discard, c.br)
	}
	switch {
	case errors.Is(c.ended, os.ErrDeadlineExceeded):
		c.out.end = "silent"
	case loopback.IsReset(c.ended):
		c.out.end = "reset"
	case !announced && len(c.out.got) > 0 && c.w.after == stays:
		c.out.end = "closed unannounced"
	default:
		c.out.end = "closed"
	}
}

// complain adds what the texts say that were or were not to be there.
func (c *wireClient) complain() {
	for _, look := range []struct {
		in    string
		texts []string
	}{{c.out.heads, c.w.reached}, {c.out.raw, c.w.got}} {
		for _, text := range look.texts {
			wanted, isNot := strings.CutPrefix(text, "!")
			if strings.Contains(look.in, c.insert(wanted)) == isNot {
				c.out.reached = append(c.out.reached, "but "+strconv.Quote(text))
			}
		}
	}
}

// judge says what is wrong with an outcome, or with the list of what is known.
func (w *wire) judge(seen string) string {
	right, asKnown := slices.Contains(strings.Split(w.want, " or "), seen), slices.Contains(strings.Split(w.today, " or "), seen)
	switch {
	case w.known == 0 && right, w.known != 0 && asKnown && !right:
		return ""
	case right:
		return fmt.Sprintf("%s: is right now, but listed as known, issue %d; take it off the list", w.name, w.known)
	case w.known != 0:
		return fmt.Sprintf("%s (%s):\nseen  %s\nright %s\nknown %s, issue %d", w.name, w.rule, seen, w.want, w.today, w.known)
	}
	return fmt.Sprintf("%s (%s):\nseen  %s\nright %s", w.name, w.rule, seen, w.want)
}
