package socks

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"sync/atomic"
	"time"

	socks5 "github.com/armon/go-socks5"

	"dispatch/dispatcher"
	"dispatch/listeners"
)

const version5 = 5

// The reply codes of RFC 1928 section 6.
const (
	succeeded            = 0
	generalFailure       = 1
	notAllowed           = 2
	networkUnreachable   = 3
	hostUnreachable      = 4
	connectionRefused    = 5
	timeToLiveExpired    = 6
	_                    = 7 // command not supported: sent by the library
	_                    = 8 // address type not supported: sent by the library
	offsetOfReply        = 1 // in the message
	shortestReplyMessage = 4
)

// replyOf translates a failure to SOCKS5.
func replyOf(class dispatcher.Class) byte {
	switch class {
	case dispatcher.NotAllowed:
		return notAllowed
	case dispatcher.NoUplink, dispatcher.NetworkUnreachable:
		return networkUnreachable
	case dispatcher.UnknownHost, dispatcher.HostUnreachable:
		return hostUnreachable
	case dispatcher.Refused:
		return connectionRefused
	case dispatcher.TimedOut, dispatcher.ResolveTimedOut:
		return timeToLiveExpired
	}
	return generalFailure
}

// serve5 lets the library do the handshake, with this connection's callbacks, and has the relay copy instead of it. It
// reports whether the copying has begun.
func (h *Handler) serve5(ctx context.Context, conn *listeners.Conn) bool {
	c := &client5{Conn: conn, handler: h, ctx: ctx, version: true}
	server, err := socks5.New(&socks5.Config{AuthMethods: methods5, Resolver: c, Rules: c, Dial: c.dial, Logger: silent})
	if err != nil {
		h.log.Error("setting up a SOCKS5 handshake failed", "error", err)
		return false
	}
	err = server.ServeConn(c)
	if dst := c.dst.Conn; dst != nil && c.copying.Load() {
		if err == nil {
			h.tunnel(conn, dst, nil)
			return true
		}
		// What the client sent along with its request could not be passed on.
		if abortErr := conn.Abort(); abortErr != nil {
			err = errors.Join(err, abortErr)
		}
		err = dst.Abandon(dispatcher.DestinationBroken, err)
	}
	h.logEnd(conn, err)
	return false
}

// client5 is one client in the library's eyes: its connection, resolver, rules and dialer. It keeps the library from
// copying: both directions' io.Copy end at once, and the caller of ServeConn copies with the relay instead.
type client5 struct {
	*listeners.Conn
	handler *Handler
	ctx     context.Context
	version bool          // the library has still to read the version byte, which serve has taken
	reply   byte          // what a failure is answered with instead of the library's guess
	in      *bufio.Reader // the library's: when it has read the request, what is left in it came behind that
	dst     destination5
	copying atomic.Bool // the success was sent: the library has begun to copy
	request dispatcher.Request
}

// destination5 is the connection to the destination in the library's eyes.
type destination5 struct {
	*dispatcher.Conn
	copying *atomic.Bool
}

// methods5 is what clients may choose from. They may insist on a name and password; where none is asked for, any will
// do, and the name is recorded.
var methods5 = []socks5.Authenticator{noting{socks5.NoAuthAuthenticator{}}, noting{socks5.UserPassAuthenticator{Credentials: anyone{}}}}

// silent is the library's log: ServeConn returns the same errors.
var silent = log.New(io.Discard, "", 0)

// noting is an authenticator that notes the library's reader in the client5: only authenticators are shown it.
type noting struct{ socks5.Authenticator }

func (n noting) Authenticate(r io.Reader, w io.Writer) (*socks5.AuthContext, error) {
	if c, ok := w.(*client5); ok {
		c.in, _ = r.(*bufio.Reader)
	}
	return n.Authenticator.Authenticate(r, w)
}

// anyone accepts all credentials.
type anyone struct{}

func (anyone) Valid(_, _ string) bool { return true }

// Resolve leaves names alone: resolving is the dispatcher's.
func (c *client5) Resolve(ctx context.Context, _ string) (context.Context, net.IP, error) {
	return ctx, nil, nil
}

// Allow is called when the request has been read: the handshake is over.
func (c *client5) Allow(ctx context.Context, req *socks5.Request) (context.Context, bool) {
	if err := c.SetDeadline(time.Time{}); err != nil {
		c.handler.log.Debug("clearing a client's deadline failed", "client", c.Client().String(), "error", err)
	}
	c.request = c.Request("socks5")
	c.request.Port = uint16(req.DestAddr.Port)
	if c.request.Host = unbracket(req.DestAddr.FQDN); c.request.Host == "" && req.DestAddr.IP != nil {
		c.request.Host = req.DestAddr.IP.String()
	}
	if req.AuthContext != nil {
		c.request.User = req.AuthContext.Payload["Username"]
	}
	return ctx, true
}

// dial is the library's Dial. The address it hands over is not used: a hostile name could be read in two ways.
func (c *client5) dial(context.Context, string, string) (net.Conn, error) {
	ctx, leave := context.WithCancelCause(c.ctx)
	stop := c.Dialing(leave, c.in == nil || c.in.Buffered() > 0)
	conn, err := c.handler.dialer.Dial(ctx, c.request)
	stop()
	if err != nil {
		c.reply = replyOf(dispatcher.ClassOf(err))
		return nil, fmt.Errorf("dial %s: %w", c.request.Host, err)
	}
	c.dst = destination5{Conn: conn, copying: &c.copying}
	return &c.dst, nil
}

func unbracket(host string) string {
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		return host[1 : len(host)-1]
	}
	return host
}

// Read gives the library the version byte again.
func (c *client5) Read(p []byte) (int, error) {
	if c.version && len(p) > 0 {
		c.version = false
		p[0] = version5
		return 1, nil
	}
	return c.Conn.Read(p)
}

// Write puts the right code into a failure's reply: the library guesses it from the error's text, and knows neither
// 01 nor 06.
func (c *client5) Write(p []byte) (int, error) {
	if c.reply != succeeded && len(p) >= shortestReplyMessage && p[offsetOfReply] != succeeded {
		p = bytes.Clone(p)
		p[offsetOfReply] = c.reply
	}
	return c.Conn.Write(p)
}

// WriteTo is what the library's copy from the client calls, once its buffer is empty.
func (c *client5) WriteTo(io.Writer) (int64, error) {
	c.copying.Store(true)
	return 0, nil
}

// CloseWrite does nothing: the library calls it when its copy has ended, which is before ours begins.
func (c *client5) CloseWrite() error { return nil }

// Close does nothing: the handler closes the connection, or the copying does.
func (c *client5) Close() error { return nil }

// LocalAddr is a *net.TCPAddr, which the library insists on, also where the stream has none.
func (d *destination5) LocalAddr() net.Addr {
	if local, ok := d.Conn.LocalAddr().(*net.TCPAddr); ok {
		return local
	}
	return &net.TCPAddr{IP: net.IPv4zero}
}

// Write passes on what the library's buffer holds: what the client sent behind its request.
func (d *destination5) Write(p []byte) (int, error) {
	d.copying.Store(true)
	return d.Conn.Write(p)
}

// WriteTo is what the library's copy to the client calls.
func (d *destination5) WriteTo(io.Writer) (int64, error) {
	d.copying.Store(true)
	return 0, nil
}

// CloseWrite does nothing: the library calls it when its copy has ended, which is before ours begins.
func (d *destination5) CloseWrite() error { return nil }

// Close ends a connection that was never copied from: the success could not be sent.
func (d *destination5) Close() error {
	if d.copying.Load() {
		return nil
	}
	return d.Abandon(dispatcher.ClientBroken, errClientLeft)
}

var errClientLeft = errors.New("the client left before it was answered")
