package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"dispatch/testdata/loopback"
)

// wirePatience bounds every wait of the conformance tests; nothing that is right comes near it.
const wirePatience = 5 * time.Second

// ending is what one end of a conversation does when it has sent what it had to.
type ending string

const (
	stays  ending = ""      // leaves the connection open
	fins   ending = "fin"   // sends a FIN, and goes on reading
	closes ending = "close" // closes the connection
	resets ending = "reset" // closes it with a reset
)

// end does so.
func (e ending) end(conn *net.TCPConn) error {
	switch e {
	case fins:
		return conn.CloseWrite()
	case resets:
		return loopback.Reset(conn)
	case closes:
		return conn.Close()
	case stays:
	}
	return nil
}

// pieces sends text at once, or byte by byte, each by itself as far as the kernel allows.
func pieces(conn net.Conn, text string, bytewise bool) error {
	if !bytewise {
		_, err := io.WriteString(conn, text)
		return err
	}
	for _, b := range []byte(text) {
		if _, err := conn.Write([]byte{b}); err != nil {
			return err
		}
		time.Sleep(20 * time.Microsecond)
	}
	return nil
}

// wireOrigin is a destination that keeps what has reached it. Its HTTP is strict; raw, it echoes.
type wireOrigin struct {
	listener *net.TCPListener
	raw      bool
	answer   string
	after    ending
	early    bool
	bytewise bool

	mu      sync.Mutex
	conns   []*net.TCPConn
	got     []string // each whole request, or wrong one; raw: what each connection brought
	heads   string   // all of their lines
	busy    int      // connections inside a request
	begun   bool     // a head has come whole
	closed  bool
	running sync.WaitGroup
}

// okAnswer is what an origin answers where a case says nothing else.
const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// The last request of a conversation finds out whether the connection is still open, and whose turn it is there.
const (
	alivePath   = "/alive"
	aliveAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nalive"
)

func (o *wireOrigin) serve() {
	o.running.Go(func() {
		for {
			conn, err := o.listener.AcceptTCP()
			if err != nil {
				return
			}
			o.mu.Lock()
			if o.closed {
				conn.Close()
			}
			o.conns = append(o.conns, conn)
			o.busy++
			o.mu.Unlock()
			o.running.Go(func() {
				defer conn.Close()
				if err := conn.SetDeadline(time.Now().Add(2 * wirePatience)); err != nil {
					return
				}
				if o.raw {
					o.echo(conn)
				} else {
					o.talk(conn)
				}
			})
		}
	})
}

// close ends all connections. Whoever keeps one learns of it.
func (o *wireOrigin) close() {
	o.listener.Close()
	o.mu.Lock()
	o.closed = true
	for _, c := range o.conns {
		c.Close()
	}
	o.mu.Unlock()
	o.running.Wait()
}

func (o *wireOrigin) echo(conn *net.TCPConn) {
	defer o.idle(1)
	data := make([]byte, 64<<10)
	o.mu.Lock()
	mine := len(o.got)
	o.got = append(o.got, "")
	o.mu.Unlock()
	for {
		n, err := conn.Read(data)
		o.mu.Lock()
		o.got[mine] += string(data[:n])
		o.mu.Unlock()
		if n > 0 {
			if _, err := conn.Write(data[:n]); err != nil {
				return
			}
		}
		if err != nil {
			_ = fins.end(conn)
			return
		}
	}
}

// idle notes that one connection has nothing half-done (1), or something again (-1).
func (o *wireOrigin) idle(n int) {
	o.mu.Lock()
	o.busy -= n
	o.mu.Unlock()
}

// never is the answer of an origin that keeps its client waiting.
const never = "never"

// talk answers requests until one ends the connection.
func (o *wireOrigin) talk(conn *net.TCPConn) {
	var src io.Reader = conn
	if o.early {
		src = io.LimitReader(conn, 256<<10) // then it closes, as servers do that want no more of an upload
	}
	br := bufio.NewReader(src)
	for o.idle(1); ; o.idle(1) {
		if _, err := br.Peek(1); err != nil {
			return
		}
		o.idle(-1)
		if !o.serveOne(conn, br) {
			o.idle(1)
			return
		}
	}
}

func isAlive(m *message) bool { return strings.HasPrefix(m.start, "GET "+alivePath+" ") }

// serveOne reads a request and answers it; false when that ends the connection.
func (o *wireOrigin) serveOne(conn *net.TCPConn, br *bufio.Reader) bool {
	m, err := readMessage(br, false, "", func(m *message) {
		o.mu.Lock()
		o.begun = true
		o.mu.Unlock()
		// What fails here shows at the next read.
		if slices.Contains(m.values("Expect"), "100-continue") {
			_, _ = io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		if o.early && !isAlive(m) {
			_, _ = io.WriteString(conn, o.answer)
			_ = o.after.end(conn)
		}
	})
	if isAlive(&m) {
		return pieces(conn, aliveAnswer, false) == nil
	}
	o.note(m, err)
	answer := o.answer
	switch {
	case err != nil, o.early:
		return false
	case answer == never:
		_, _ = io.Copy(io.Discard, br)
		return false
	case strings.HasPrefix(m.start, "HEAD ") && answer == okAnswer:
		head, _, _ := strings.Cut(answer, "\r\n\r\n")
		answer = head + "\r\n\r\n"
	}
	return pieces(conn, answer, o.bytewise) == nil && o.after.end(conn) == nil && o.after != closes && o.after != resets
}

// note keeps a request. One that was cut has been told from a whole one, and is not served: how much of it comes depends
// on the moment.
func (o *wireOrigin) note(m message, err error) {
	if errors.Is(err, errCut) {
		return
	}
	method, rest, _ := strings.Cut(m.start, " ")
	target, _, _ := strings.Cut(rest, " ")
	text := strings.TrimSpace(method + " " + target)
	if m.body != "" {
		text += " " + brief(m.body)
	}
	if err != nil {
		text += " (" + err.Error() + ")"
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.got = append(o.got, text)
	o.heads += m.start + "\r\n" + strings.Join(m.fields, "\r\n") + "\r\n"
}

// await waits until a request's head has come, but not for long.
func (o *wireOrigin) await(within time.Duration) {
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(time.Millisecond) {
		o.mu.Lock()
		come := o.begun
		o.mu.Unlock()
		if come {
			return
		}
	}
}

// reached is what has come, once nothing is half-done any more.
func (o *wireOrigin) reached(within time.Duration) (got []string, heads string) {
	for end := time.Now().Add(within); ; time.Sleep(time.Millisecond) {
		o.mu.Lock()
		got, heads = slices.Clone(o.got), o.heads
		busy := o.busy
		o.mu.Unlock()
		if busy == 0 {
			return got, heads
		}
		if time.Now().After(end) {
			return append(got, "(hangs)"), heads
		}
	}
}

// brief keeps long content out of the tables.
func brief(body string) string {
	if len(body) > 32 {
		return body[:1] + "..."
	}
	return body
}
