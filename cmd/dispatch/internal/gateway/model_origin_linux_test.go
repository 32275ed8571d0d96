package gateway

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	modelPort = 80
	// modelTunnel begins a tunnel's hello; anything else is HTTP.
	modelTunnel = 0xd1
	// modelKeep is how long an origin keeps a connection without a request.
	modelKeep = 3 * time.Second
)

// The framings of a response.
const (
	framedByLength = iota
	framedByChunks
	framedByEnd
)

// modelOrigin is a server in the internet.
type modelOrigin struct {
	model   *model
	name    string
	addrs   []netip.Addr // IPv4 first
	serving sync.WaitGroup

	mu        sync.Mutex
	down      int // how many want it to be
	listeners []net.Listener
	conns     map[*net.TCPConn]bool // whether something is under way on them
}

func (o *modelOrigin) has(destination string) bool {
	at, err := netip.ParseAddrPort(destination)
	return err == nil && at.Port() == modelPort && slices.Contains(o.addrs, at.Addr())
}

// open begins to listen, once nobody wants the origin to be down.
func (o *modelOrigin) open() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.down--; o.down > 0 {
		return
	}
	for _, a := range o.addrs {
		ln := o.model.lab.Listen(o.model.t, netip.AddrPortFrom(a, modelPort))
		o.listeners = append(o.listeners, ln)
		o.serving.Go(func() { o.accept(ln) })
	}
}

// shut stops listening: who connects is refused.
func (o *modelOrigin) shut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.down++
	for _, ln := range o.listeners {
		ln.Close()
	}
	o.listeners = nil
}

func (o *modelOrigin) accept(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				o.model.wrong("%s: accept: %v", o.name, err)
			}
			return
		}
		tcp := c.(*net.TCPConn)
		o.busy(tcp, false)
		o.serving.Go(func() { o.serve(tcp) })
	}
}

func (o *modelOrigin) busy(c *net.TCPConn, busy bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.conns[c] = busy
}

// reset breaks connections; with idle, also those on which nothing is under way.
func (o *modelOrigin) reset(idle bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c, busy := range o.conns {
		if busy || idle {
			resetConn(c)
		}
	}
}

// underWay counts the connections that are in the middle of something.
func (o *modelOrigin) underWay() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, busy := range o.conns {
		if busy {
			n++
		}
	}
	return n
}

// countedReader counts what was read of a connection.
type countedReader struct {
	io.Reader
	n int64
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n += int64(n)
	return n, err
}

func (o *modelOrigin) serve(c *net.TCPConn) {
	defer func() {
		o.mu.Lock()
		delete(o.conns, c)
		o.mu.Unlock()
		c.Close()
	}()
	counted := &countedReader{Reader: c}
	br := bufio.NewReader(counted)
	for {
		if c.SetReadDeadline(time.Now().Add(modelKeep)) != nil {
			return
		}
		first, err := br.Peek(1)
		if counted.n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			resetConn(c) // what was to be asked may still be on its way: a FIN would be an answer
		}
		if err != nil || c.SetReadDeadline(time.Time{}) != nil {
			return
		}
		o.busy(c, true)
		if first[0] == modelTunnel {
			o.tunnel(c, br)
			return
		}
		if !o.exchange(c, br, counted) {
			return
		}
		o.busy(c, false)
	}
}

func (o *modelOrigin) tunnel(c *net.TCPConn, br *bufio.Reader) {
	hello := make([]byte, modelHello)
	if _, err := io.ReadFull(br, hello); err != nil {
		return // cut
	}
	s := o.model.session(binary.BigEndian.Uint64(hello[1:]))
	if s == nil {
		o.model.wrong("%s: a tunnel's hello is %x", o.name, hello)
		return
	}
	v := s.visit(c.RemoteAddr())
	early := make([]byte, br.Buffered())
	_, _ = io.ReadFull(br, early) // it has that many
	v.take(early)
	v.converse(c)
}

// answersEarly tells whether the origin answers a request before it has heard it out.
func (s *modelSession) answersEarly() bool { return s.answers.length%2 == 1 }

// exchange serves a request. It tells whether another may follow.
func (o *modelOrigin) exchange(c *net.TCPConn, br *bufio.Reader, counted *countedReader) bool {
	before := counted.n - int64(br.Buffered())
	req, err := http.ReadRequest(br)
	if err != nil {
		if !isBroken(err) {
			o.model.wrong("%s: a request: %v", o.name, err)
		}
		return false
	}
	id, err := strconv.ParseUint(strings.TrimPrefix(req.URL.Path, "/"), 10, 64)
	s := o.model.session(id)
	if err != nil || s == nil {
		o.model.wrong("%s: a request for %s", o.name, req.URL)
		return false
	}
	v := s.visit(c.RemoteAddr())
	var body sync.WaitGroup
	body.Go(func() {
		v.takeAll(req.Body)
		v.rawIn = counted.n - int64(br.Buffered()) - before
	})
	if !s.answersEarly() {
		body.Wait()
	}
	v.respond(c, s)
	if !v.finished.Load() || s.framing == framedByEnd {
		// The rest of the request must not make the kernel reset what it has not sent yet.
		if v.finished.Load() {
			_ = c.CloseWrite()
			body.Wait()
			return false
		}
		c.Close()
	}
	body.Wait()
	return v.finished.Load() && v.whole.Load()
}

// takeAll takes a body to its end.
func (e *modelEnd) takeAll(body io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := body.Read(buf)
		e.take(buf[:n])
		if err != nil {
			e.whole.Store(errors.Is(err, io.EOF))
			return
		}
	}
}

// respond writes the response, to its end or its cut.
func (e *modelEnd) respond(c *net.TCPConn, s *modelSession) {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Session: %d\r\n", s.id)
	switch s.framing {
	case framedByLength:
		head += fmt.Sprintf("Content-Length: %d\r\n\r\n", e.part.length)
	case framedByChunks:
		head += "Transfer-Encoding: chunked\r\n\r\n"
	default:
		head += "Connection: close\r\n\r\n"
	}
	e.writeMessage(c, head, s.framing == framedByChunks, s.framing == framedByEnd)
}

// writeMessage writes a head and the body of the part, in chunks or not. It breaks off at the part's cut; toFIN is whether
// a FIN ends the body.
func (e *modelEnd) writeMessage(c *net.TCPConn, head string, chunked, toFIN bool) {
	write := func(p []byte) bool {
		n, err := c.Write(p)
		e.rawOut += int64(n)
		return err == nil
	}
	if !write([]byte(head)) {
		return
	}
	buf := make([]byte, e.part.piece)
	for paused := false; ; {
		sent := e.sent.Load()
		if sent == e.part.length && !chunked && !toFIN {
			e.finished.Store(true) // whatever comes now
		}
		if e.cutNow() {
			e.breakOff(c, toFIN)
			return
		}
		if !paused && sent >= e.part.pauseAt {
			paused = true
			time.Sleep(e.part.pause)
		}
		if sent >= e.part.length {
			break
		}
		data := e.out.fill(buf[:min(e.next(sent), int64(len(buf)))], sent)
		n := int64(len(data))
		if chunked {
			data = fmt.Appendf(nil, "%x\r\n%s\r\n", n, data)
		}
		if !write(data) {
			return
		}
		e.sent.Add(n)
	}
	if chunked && !write([]byte("0\r\n\r\n")) {
		return
	}
	e.finished.Store(true)
}

// isBroken tells whether err is a connection's, not a message's.
func isBroken(err error) bool {
	_, broken := errors.AsType[*net.OpError](err)
	return broken || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
