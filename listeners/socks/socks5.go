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
	s := &session5{Conn: conn, handler: h, ctx: ctx, version: true}
	server, err := socks5.New(&socks5.Config{AuthMethods: methods5, Resolver: s, Rules: s, Dial: s.dial, Logger: silent})
	if err != nil {
		h.log.Error("setting up a SOCKS5 handshake failed", "error", err)
		return false
	}
	err = server.ServeConn(s)
	if dst := s.dst.Conn; dst != nil && s.copying.Load() {
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

// session5 is one client in the library's eyes: its connection, resolver, rules and dialer. It keeps the library from
// copying: both directions' io.Copy end at once, and the caller of ServeConn copies with the relay instead.
type session5 struct {
	*listeners.Conn
	handler *Handler
	ctx     context.Context
	version bool          // the version byte, which sniffing the protocol has taken, is still to be read by the library
	reply   byte          // what a failure is answered with instead of the library's guess
	held    *bufio.Reader // the library's: what it holds once the request is read came behind it
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

// noting is an authenticator that notes what the library reads the client's words from.
type noting struct{ socks5.Authenticator }

func (n noting) Authenticate(r io.Reader, w io.Writer) (*socks5.AuthContext, error) {
	if s, ok := w.(*session5); ok {
		s.held, _ = r.(*bufio.Reader)
	}
	return n.Authenticator.Authenticate(r, w)
}

// anyone accepts all credentials.
type anyone struct{}

func (anyone) Valid(_, _ string) bool { return true }

// Resolve leaves names alone: resolving is the dispatcher's.
func (s *session5) Resolve(ctx context.Context, _ string) (context.Context, net.IP, error) {
	return ctx, nil, nil
}

// Allow is called when the request has been read: the handshake is over.
func (s *session5) Allow(ctx context.Context, req *socks5.Request) (context.Context, bool) {
	if err := s.SetDeadline(time.Time{}); err != nil {
		s.handler.log.Debug("clearing a client's deadline failed", "client", s.Client().String(), "error", err)
	}
	s.request = s.Request("socks5")
	s.request.Port = uint16(req.DestAddr.Port)
	if s.request.Host = unbracket(req.DestAddr.FQDN); s.request.Host == "" && req.DestAddr.IP != nil {
		s.request.Host = req.DestAddr.IP.String()
	}
	if req.AuthContext != nil {
		s.request.User = req.AuthContext.Payload["Username"]
	}
	return ctx, true
}

// dial is the library's Dial. The address it hands over is not used: a hostile name could be read in two ways.
func (s *session5) dial(context.Context, string, string) (net.Conn, error) {
	ctx, leave := context.WithCancelCause(s.ctx)
	stop := s.Dialing(leave, s.held == nil || s.held.Buffered() > 0)
	conn, err := s.handler.dialer.Dial(ctx, s.request)
	stop()
	if err != nil {
		s.reply = replyOf(dispatcher.ClassOf(err))
		return nil, fmt.Errorf("dial %s: %w", s.request.Host, err)
	}
	s.dst = destination5{Conn: conn, copying: &s.copying}
	return &s.dst, nil
}

func unbracket(host string) string {
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		return host[1 : len(host)-1]
	}
	return host
}

// Read gives the library the version byte again.
func (s *session5) Read(p []byte) (int, error) {
	if s.version && len(p) > 0 {
		s.version = false
		p[0] = version5
		return 1, nil
	}
	return s.Conn.Read(p)
}

// Write puts the right code into a failure's reply: the library guesses it from the error's text, and knows neither
// 01 nor 06.
func (s *session5) Write(p []byte) (int, error) {
	if s.reply != succeeded && len(p) >= shortestReplyMessage && p[offsetOfReply] != succeeded {
		p = bytes.Clone(p)
		p[offsetOfReply] = s.reply
	}
	return s.Conn.Write(p)
}

// WriteTo is what the library's copy from the client calls, once its buffer is empty.
func (s *session5) WriteTo(io.Writer) (int64, error) {
	s.copying.Store(true)
	return 0, nil
}

// CloseWrite does nothing: the library calls it when its copy has ended, which is before ours begins.
func (s *session5) CloseWrite() error { return nil }

// Close does nothing: the handler closes the connection, or the copying does.
func (s *session5) Close() error { return nil }

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
