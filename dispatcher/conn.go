package dispatcher

import (
	"errors"
	"net"
	"net/netip"
	"runtime/debug"
	"sync/atomic"
	"time"

	"dispatch/dispatcher/relay"
	"dispatch/dispatcher/uplink"
)

// Conn is a connection to a destination. What is read and written is counted for the session it serves at the
// moment: one for its life when it came from Dial, one after the other when it is kept alive between requests.
type Conn struct {
	tcp         *net.TCPConn
	uplink      *uplink.Uplink
	destination netip.AddrPort
	serving     atomic.Pointer[Session]
	owned       *Session // ended by Close; nil when sessions are the caller's
	relaying    atomic.Pointer[relay.Session]
}

// Uplink returns the line the connection leaves by, nil when it is direct.
func (c *Conn) Uplink() *uplink.Uplink { return c.uplink }

// Family returns the family of the destination's address.
func (c *Conn) Family() uplink.Family { return uplink.FamilyOf(c.destination.Addr()) }

// Serve makes s the session whose bytes the connection carries from now on, and notes in s where it goes.
func (c *Conn) Serve(s *Session) {
	s.carriedBy(c)
	c.serving.Store(s)
}

// Relay begins to copy between the client and the destination and returns. When both directions have ended it closes
// both, ends the session, and calls done, once, with nil when both ended with a FIN. Only for connections that came
// from Dial.
func (c *Conn) Relay(client net.Conn, done func(error)) {
	s := relay.New(client, c.tcp, &c.owned.bytes, func(err error) { c.relayed(err, done) })
	c.relaying.Store(s)
	s.Start()
}

// Go is the statement go f(), on a goroutine that may have run something else before. Serving a client calls deeply, and
// a new goroutine has its stack grown and copied several times on the way.
func Go(f func()) { relay.Go(f) }

// Wake makes a relay notice that the client's connection has been closed. Without a relay it does nothing.
func (c *Conn) Wake() {
	if s := c.relaying.Load(); s != nil {
		s.Wake()
	}
}

// relayed is the end of a relay. Nobody above it would take a panic.
func (c *Conn) relayed(err error, done func(error)) {
	defer c.survive()
	defer done(err)
	if cause, ok := errors.AsType[*relay.PanicError](err); ok {
		c.logPanic(cause.Value, cause.Stack)
	}
	c.owned.End(err)
}

func (c *Conn) survive() {
	if cause := recover(); cause != nil {
		c.logPanic(cause, debug.Stack())
	}
}

func (c *Conn) logPanic(cause any, stack []byte) {
	c.owned.d.log.Error("relaying panicked", "client", c.owned.Request.Client.String(), "cause", cause, "stack", string(stack))
}

// Abandon closes a connection whose relaying could not begin: class says because of whom, cause why. It ends the
// session with both and returns them as an *Error. Only for connections that came from Dial.
func (c *Conn) Abandon(class Class, cause error) error {
	err := &Error{Step: StepAnswer, Class: class, Host: c.owned.Request.Host, Err: cause}
	c.owned.End(err)
	if closeErr := c.Close(); closeErr != nil {
		return errors.Join(err, closeErr)
	}
	return err
}

// Read reads from the destination.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.tcp.Read(p)
	if s := c.serving.Load(); s != nil {
		s.bytes.Down.Add(int64(n))
	}
	return n, err
}

// Write writes to the destination.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.tcp.Write(p)
	if s := c.serving.Load(); s != nil {
		s.bytes.Up.Add(int64(n))
	}
	return n, err
}

// Quiet tells whether the connection is open and the destination has sent nothing that has not been read, nor its end.
func (c *Conn) Quiet() bool {
	raw, err := c.tcp.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Control(func(fd uintptr) { quiet = isQuiet(fd) })
	return err == nil && quiet
}

// SetLinger is that of net.TCPConn: with 0, Close resets the connection.
func (c *Conn) SetLinger(sec int) error { return c.tcp.SetLinger(sec) }

// Close closes the connection, and ends its session if it came from Dial.
func (c *Conn) Close() error {
	err := c.tcp.Close()
	c.Wake()
	if c.owned != nil {
		c.owned.End(nil)
	}
	return err
}

// CloseRead and CloseWrite shut down one direction.
func (c *Conn) CloseRead() error { return c.tcp.CloseRead() }

// CloseWrite sends a FIN to the destination.
func (c *Conn) CloseWrite() error { return c.tcp.CloseWrite() }

// LocalAddr is a *net.TCPAddr.
func (c *Conn) LocalAddr() net.Addr { return c.tcp.LocalAddr() }

// RemoteAddr is a *net.TCPAddr.
func (c *Conn) RemoteAddr() net.Addr { return c.tcp.RemoteAddr() }

// SetDeadline is that of net.Conn.
func (c *Conn) SetDeadline(t time.Time) error { return c.tcp.SetDeadline(t) }

// SetReadDeadline is that of net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.tcp.SetReadDeadline(t) }

// SetWriteDeadline is that of net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.tcp.SetWriteDeadline(t) }
