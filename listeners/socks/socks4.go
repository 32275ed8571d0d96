package socks

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"dispatch/dispatcher"
	"dispatch/listeners"
)

// SOCKS4 as its authors' memo has it (Ying-Da Lee, "SOCKS: A protocol for TCP proxy across firewalls"), and its
// extension 4a for names.
const (
	version4       = 4
	connect4       = 1
	granted4       = 90
	rejected4      = 91
	longestField4  = 255 // user and host; the memos set no bound
	requestBuffer4 = 1024
)

var errFieldTooLong = errors.New("a field of the request is too long")

// client4 is one client, with what it is read from and answered with.
type client4 struct {
	conn    *listeners.Conn
	in      *bufio.Reader
	message [8]byte
}

// request4 is a parsed request, without its version byte.
type request4 struct {
	command byte
	port    uint16
	user    string
	host    string
	named   bool // 4a: host is a name
}

// readRequest4 parses what follows the version byte.
func readRequest4(r *bufio.Reader) (request4, error) {
	var head [7]byte
	for n := range head {
		b, err := r.ReadByte()
		if err != nil {
			return request4{}, fmt.Errorf("read the request: %w", err)
		}
		head[n] = b
	}
	q := request4{command: head[0], port: binary.BigEndian.Uint16(head[1:3])}
	addr := netip.AddrFrom4([4]byte(head[3:7]))
	var err error
	if q.user, err = readField4(r); err != nil {
		return request4{}, fmt.Errorf("read the user: %w", err)
	}
	// 0.0.0.x with x other than 0 announces a name (SOCKS 4A memo).
	if q.named = head[3] == 0 && head[4] == 0 && head[5] == 0 && head[6] != 0; !q.named {
		q.host = addr.String()
		return q, nil
	}
	if q.host, err = readField4(r); err != nil {
		return request4{}, fmt.Errorf("read the host: %w", err)
	}
	q.host = unbracket(q.host)
	return q, nil
}

// readField4 reads up to a NUL, which it drops.
func readField4(r *bufio.Reader) (string, error) {
	var field [longestField4]byte
	for n := 0; ; n++ {
		b, err := r.ReadByte()
		switch {
		case err != nil:
			return "", err
		case b == 0:
			return string(field[:n]), nil
		case n == longestField4:
			return "", errFieldTooLong
		}
		field[n] = b
	}
}

// serve4 reports whether the copying has begun.
func (h *Handler) serve4(ctx context.Context, conn *listeners.Conn) bool {
	c, _ := h.clients4.Get().(*client4)
	c.conn = conn
	c.in.Reset(conn)
	defer func() {
		c.conn = nil
		c.in.Reset(nil)
		h.clients4.Put(c)
	}()
	q, err := readRequest4(c.in)
	if err != nil {
		if errors.Is(err, errFieldTooLong) {
			err = errors.Join(err, c.reply(rejected4, nil))
		}
		h.logEnd(conn, err)
		return false
	}
	dst, err := h.dial4(ctx, c, q)
	if err != nil {
		h.logEnd(conn, err)
		return false
	}
	// What is left in the buffer came behind the request. Peeking at it cannot fail.
	early, _ := c.in.Peek(c.in.Buffered())
	h.tunnel(conn, dst, early)
	return true
}

// dial4 connects to the destination and tells the client how that ended.
func (h *Handler) dial4(ctx context.Context, c *client4, q request4) (*dispatcher.Conn, error) {
	if q.command != connect4 {
		return nil, errors.Join(fmt.Errorf("command %d is not supported", q.command), c.reply(rejected4, nil))
	}
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	req := c.conn.Request("socks4")
	if q.named {
		req.Protocol = "socks4a"
	}
	req.User, req.Host, req.Port = q.user, q.host, q.port
	ctx, leave := context.WithCancelCause(ctx)
	stop := c.conn.Dialing(leave, c.in.Buffered() > 0)
	dst, err := h.dialer.Dial(ctx, req)
	stop()
	if err != nil {
		return nil, errors.Join(err, c.reply(rejected4, nil))
	}
	if err := c.reply(granted4, dst.LocalAddr()); err != nil {
		return nil, dst.Abandon(dispatcher.ClientBroken, err)
	}
	return dst, nil
}

// reply answers with a code and the address the destination sees, where that is IPv4.
func (c *client4) reply(code byte, local net.Addr) error {
	c.message = [8]byte{1: code}
	if tcp, ok := local.(*net.TCPAddr); ok {
		if a := tcp.AddrPort(); a.Addr().Unmap().Is4() {
			binary.BigEndian.PutUint16(c.message[2:4], a.Port())
			four := a.Addr().Unmap().As4()
			copy(c.message[4:8], four[:])
		}
	}
	if _, err := c.conn.Write(c.message[:]); err != nil {
		return fmt.Errorf("send the reply: %w", err)
	}
	return nil
}
