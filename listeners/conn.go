package listeners

import (
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"dispatch/dispatcher"
)

// Conn is a client's connection, as a Handler gets it. What was read to find out the protocol is read again from it.
type Conn struct {
	stream  dispatcher.Stream
	prefix  []byte              // read from it, not yet by the handler
	profile *dispatcher.Profile // the listener's
	server  *Server
	idle    bool // under server.mu: no request is being served
	closed  atomic.Bool
	aborted atomic.Bool
	tunnel  atomic.Pointer[dispatcher.Conn] // the other end, while Tunnel copies
}

// Request starts a request of this client; the handler adds what it asks for.
func (c *Conn) Request(protocol string) dispatcher.Request {
	return dispatcher.Request{Profile: c.profile, Protocol: protocol, Client: c.Client()}
}

// Client is the client's address.
func (c *Conn) Client() netip.AddrPort {
	if a, ok := c.stream.RemoteAddr().(*net.TCPAddr); ok {
		p := a.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}

// Idle tells the server that the connection waits for a request (true) or has one being served (false). An idle
// connection is closed at once when the server shuts down, be it already idle then or later.
func (c *Conn) Idle(idle bool) { c.server.setIdle(c, idle) }

// Detach hands the stream over for copying, with what has been read from it and not yet by the handler; nil when
// there is no such thing. The Conn must not be read any more, but is still to be closed.
func (c *Conn) Detach() (dispatcher.Stream, []byte) {
	rest := c.prefix
	c.prefix = nil
	return c.stream, rest
}

// Read reads what the client sent.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.prefix) > 0 {
		n := copy(p, c.prefix)
		c.skip(n)
		return n, nil
	}
	return c.stream.Read(p)
}

// skip drops what the handler has read of the prefix, and at its end the buffer.
func (c *Conn) skip(n int) {
	if c.prefix = c.prefix[n:]; len(c.prefix) == 0 {
		c.prefix = nil
	}
}

// ReadByte reads the next byte that the client sent.
func (c *Conn) ReadByte() (byte, error) {
	if len(c.prefix) > 0 {
		b := c.prefix[0]
		c.skip(1)
		return b, nil
	}
	one := make([]byte, 1)
	_, err := io.ReadFull(c.stream, one)
	return one[0], err
}

// Write sends to the client.
func (c *Conn) Write(p []byte) (int, error) { return c.stream.Write(p) }

// Close closes the connection and ends its tracking. Further calls do nothing.
func (c *Conn) Close() error { return c.end(dispatcher.Stream.Close) }

// end stops the tracking, closes the stream by way, Close or Reset, and has a tunnel's copying notice.
func (c *Conn) end(way func(dispatcher.Stream) error) error {
	if c.closed.Swap(true) {
		return nil
	}
	c.server.forget(c)
	err := way(c.stream)
	if dst := c.tunnel.Load(); dst != nil {
		dst.Wake()
	}
	return err
}

// Aborted tells whether Abort has ended the connection, and not its handler or the client.
func (c *Conn) Aborted() bool { return c.aborted.Load() }

// CloseWrite sends a FIN to the client.
func (c *Conn) CloseWrite() error { return c.stream.CloseWrite() }

// Abort closes the connection with a reset, so that the client does not take what it got for all there was.
func (c *Conn) Abort() error {
	if c.closed.Load() {
		return nil
	}
	c.aborted.Store(true)
	return c.end(dispatcher.Reset)
}

// LocalAddr is a *net.TCPAddr.
func (c *Conn) LocalAddr() net.Addr { return c.stream.LocalAddr() }

// RemoteAddr is a *net.TCPAddr.
func (c *Conn) RemoteAddr() net.Addr { return c.stream.RemoteAddr() }

// SetDeadline is that of net.Conn.
func (c *Conn) SetDeadline(t time.Time) error { return c.stream.SetDeadline(t) }

// SetReadDeadline is that of net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.stream.SetReadDeadline(t) }

// SetWriteDeadline is that of net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.stream.SetWriteDeadline(t) }
