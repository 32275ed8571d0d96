package gateway

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// modelClient makes one session after the other, from a local address of its own.
type modelClient struct {
	model *model
	from  netip.Addr
	web   *net.TCPConn
	br    *bufio.Reader // of web, which is kept for further requests

	mu      sync.Mutex
	conn    *net.TCPConn  // in use
	session *modelSession // under way
}

// run makes the sessions of the plans.
func (c *modelClient) run(sessions []*modelSession) {
	for _, s := range sessions {
		if s.protocol == modelHTTP {
			s.failed = c.request(s)
		} else {
			s.failed = c.tunnel(s)
		}
		c.mu.Lock()
		c.conn, c.session = nil, nil
		if s.protocol == modelHTTP && s.client.killed.Load() {
			c.web = nil
		}
		c.mu.Unlock()
	}
}

// kill breaks the client's connection, as when its process is killed.
func (c *modelClient) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil {
		return
	}
	c.session.client.killed.Store(true)
	resetConn(c.conn)
}

// connect opens a connection to the gateway.
func (c *modelClient) connect(to string) (*net.TCPConn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: c.from.AsSlice()}}
	conn, err := d.DialContext(context.Background(), "tcp", to)
	if err != nil {
		c.model.wrong("the gateway takes no client: %v", err)
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// begin makes conn the session's.
func (c *modelClient) begin(s *modelSession, conn *net.TCPConn) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.way = modelWay{conn.LocalAddr().(*net.TCPAddr).AddrPort(), conn.RemoteAddr().String()}
	c.conn, c.session = conn, s
	return conn.SetDeadline(time.Now().Add(c.model.patience))
}

func (c *modelClient) tunnel(s *modelSession) error {
	at := c.model.gateway.socks
	if s.protocol == modelCONNECT {
		at = c.model.gateway.http
	}
	conn, err := c.connect(at)
	if err != nil {
		return err
	}
	hello := binary.BigEndian.AppendUint64([]byte{modelTunnel}, s.id)
	request := s.request()
	if s.eager {
		request = append(request, hello...)
	}
	if err := c.begin(s, conn); err != nil {
		return err
	}
	_, err = conn.Write(request)
	if s.leaves {
		time.Sleep(time.Duration(s.id%8) * time.Millisecond)
		resetConn(conn)
		return errors.New("the client left")
	}
	if err == nil {
		err = s.readReply(conn)
	}
	if err == nil && !s.eager {
		_, err = conn.Write(hello)
	}
	if err != nil {
		resetConn(conn)
		return err
	}
	s.client.converse(conn)
	return nil
}

// request is what a tunnel's client asks the gateway.
func (s *modelSession) request() []byte {
	ip, err := netip.ParseAddr(s.host)
	switch s.protocol {
	case modelSOCKS5:
		request := []byte{5, 1, 0, 5, 1, 0}
		switch {
		case err != nil:
			request = append(append(request, 3, byte(len(s.host))), s.host...)
		case ip.Is4():
			request = append(append(request, 1), ip.AsSlice()...)
		default:
			request = append(append(request, 4), ip.AsSlice()...)
		}
		return append(request, 0, modelPort)
	case modelSOCKS4:
		return append(append([]byte{4, 1, 0, modelPort}, ip.AsSlice()...), 0)
	case modelSOCKS4a:
		return append(append([]byte{4, 1, 0, modelPort, 0, 0, 0, 1, 0}, s.host...), 0)
	default:
		at := net.JoinHostPort(s.host, strconv.Itoa(modelPort))
		return fmt.Appendf(nil, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", at)
	}
}

// readReply reads the gateway's answer, and not a byte more.
func (s *modelSession) readReply(conn net.Conn) error {
	read := func(n int) []byte {
		p := make([]byte, n)
		if _, err := io.ReadFull(conn, p); err != nil {
			return nil
		}
		return p
	}
	switch s.protocol {
	case modelSOCKS5:
		head := read(2 + 4)
		if len(head) == 0 || head[3] != 0 {
			return fmt.Errorf("SOCKS5 reply %v", head)
		}
		rest := 4 + 2
		if head[5] == 4 {
			rest = 16 + 2
		}
		if read(rest) == nil {
			return errors.New("SOCKS5 reply cut")
		}
	case modelSOCKS4, modelSOCKS4a:
		if reply := read(8); len(reply) == 0 || reply[1] != 90 {
			return fmt.Errorf("SOCKS4 reply %v", reply)
		}
	default:
		resp, err := http.ReadResponse(bufio.NewReaderSize(oneByOne{conn}, 16), &http.Request{Method: http.MethodConnect})
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
	}
	return nil
}

// oneByOne keeps a buffered reader from reading ahead.
type oneByOne struct{ net.Conn }

func (r oneByOne) Read(p []byte) (int, error) { return r.Conn.Read(p[:min(1, len(p))]) }

// request makes a plain request, on a connection that is kept if it may be.
func (c *modelClient) request(s *modelSession) error {
	if c.web != nil && s.fresh {
		c.web.Close()
		c.web = nil
	}
	if c.web == nil {
		conn, err := c.connect(c.model.gateway.http)
		if err != nil {
			return err
		}
		c.web, c.br = conn, bufio.NewReader(conn)
	}
	conn := c.web
	if err := c.begin(s, conn); err != nil {
		return err
	}
	var sending sync.WaitGroup
	sending.Go(func() { s.sendRequest(conn) })
	kept, err := s.readResponse(c.br, conn)
	if err != nil {
		resetConn(conn)
	}
	sending.Wait()
	if err != nil || !kept || !s.client.finished.Load() || s.client.broke.Load() {
		conn.Close()
		c.web = nil
	}
	return err
}

func (s *modelSession) sendRequest(conn *net.TCPConn) {
	method, framing := http.MethodGet, ""
	switch {
	case s.client.part.length == 0:
	case s.chunked:
		method, framing = http.MethodPost, "Transfer-Encoding: chunked\r\n"
	default:
		method, framing = http.MethodPost, fmt.Sprintf("Content-Length: %d\r\n", s.client.part.length)
	}
	at := net.JoinHostPort(s.host, strconv.Itoa(modelPort))
	head := fmt.Sprintf("%s http://%s/%d HTTP/1.1\r\nHost: %[2]s\r\n%[4]s\r\n", method, at, s.id, framing)
	if method == http.MethodGet {
		// Its whole is the head: there is nothing to cut it in.
		if _, err := conn.Write([]byte(head)); err == nil {
			s.client.finished.Store(true)
		}
		return
	}
	s.client.writeMessage(conn, head, s.chunked, false)
}

// readResponse tells whether the connection may be used again. An error says that there was no whole response of the origin.
func (s *modelSession) readResponse(br *bufio.Reader, conn *net.TCPConn) (kept bool, err error) {
	method := http.MethodPost
	if s.client.part.length == 0 {
		method = http.MethodGet
	}
	resp, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		return false, err
	}
	if mark := resp.Header.Get("X-Session"); mark == "" {
		if resp.StatusCode < 500 {
			s.client.complain("the gateway answers %s", resp.Status)
		}
		_, err := io.Copy(io.Discard, resp.Body)
		return false, errors.Join(errors.New(resp.Status), err)
	} else if mark != strconv.FormatUint(s.id, 10) {
		s.client.complain("the answer is session %s's", mark)
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := resp.Body.Read(buf)
		s.client.take(buf[:n])
		if errors.Is(err, io.EOF) {
			s.client.whole.Store(true)
			// Answered before all of it was read, a request may cost the connection, which the head could not tell yet.
			early := s.client.part.length > 0 && s.answersEarly()
			return !resp.Close && !early, nil
		}
		if err != nil {
			return false, err
		}
		if s.client.part.cutIn && s.client.cutNow() {
			s.client.breakOff(conn, false)
			return false, errors.New("the client broke off")
		}
	}
}
