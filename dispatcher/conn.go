package dispatcher

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"dispatch/dispatcher/relay"
	"dispatch/dispatcher/uplink"
)

// Conn is a connection to a destination. What is read and written is counted for the session it serves at the
// moment: one for its life when it came from Dial, one after the other when it is kept alive between requests.
type Conn struct {
	stream   Stream
	uplink   *uplink.Uplink
	addr     netip.Addr // of the destination
	port     uint16
	news     uint32 // the dispatcher's when it began to connect, or later
	serving  atomic.Pointer[Session]
	owned    *Session // ended by Close; nil when sessions are the caller's
	relaying atomic.Pointer[relay.Relay]
}

// Uplink returns the line the connection leaves by, nil when it is direct.
func (c *Conn) Uplink() *uplink.Uplink { return c.uplink }

// Family returns the family of the destination's address.
func (c *Conn) Family() uplink.Family { return uplink.FamilyOf(c.addr) }

func (c *Conn) destination() netip.AddrPort { return netip.AddrPortFrom(c.addr, c.port) }

// Serve makes s the session whose bytes the connection carries from now on, and notes in s where it goes.
func (c *Conn) Serve(s *Session) {
	s.carriedBy(c)
	c.serving.Store(s)
	c.resetIfLate(s.d.latest.Load())
}

// Relay begins to copy between the client and the destination and returns. When both directions have ended it closes
// both, ends the session, and calls done, once, with nil when both ended with a FIN. Only for connections that came
// from Dial.
func (c *Conn) Relay(client Stream, done func(error)) {
	r := c.owned.d.relays.Relay(client, c.stream, &c.owned.bytes, func(err error) { c.relayed(err, done) })
	c.relaying.Store(r)
	r.Start()
}

// Go is the statement go f(), on a goroutine that may have run something else before. Serving a client calls deeply, and
// a new goroutine has its stack grown and copied several times on the way.
func Go(f func()) { relay.Go(f) }

// Wake makes a relay notice that the client's connection has been closed. Without a relay it does nothing.
func (c *Conn) Wake() {
	if r := c.relaying.Load(); r != nil {
		r.Wake()
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
	if closeErr := c.Close(); closeErr != nil && !errors.Is(closeErr, net.ErrClosed) {
		return errors.Join(err, closeErr)
	}
	return err
}

// Read reads from the destination.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.stream.Read(p)
	if s := c.serving.Load(); s != nil {
		s.bytes.Down.Add(int64(n))
	}
	return n, err
}

// Write writes to the destination.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.stream.Write(p)
	if s := c.serving.Load(); s != nil {
		s.bytes.Up.Add(int64(n))
	}
	return n, err
}

// Quiet tells whether the connection is open and the destination has sent nothing that has not been read, nor its end.
// If not, the connection is not to be used any more. Nothing may be reading from it.
func (c *Conn) Quiet() bool {
	if relay.StateOf(c.stream) != relay.Open {
		return false
	}
	if _, ok := c.stream.(syscall.Conn); ok {
		return true
	}
	// It may hold what came over its socket: a read whose time is over before it begins brings only that.
	if c.stream.SetReadDeadline(time.Unix(1, 0)) != nil {
		return false
	}
	n, err := c.stream.Read(make([]byte, 1))
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && c.stream.SetReadDeadline(time.Time{}) == nil
}

// Close closes the connection, and ends its session if it came from Dial.
func (c *Conn) Close() error {
	err := c.stream.Close()
	c.Wake()
	if c.owned != nil {
		c.owned.End(nil)
	}
	return err
}

// Reset closes the connection with a reset, which its session passes on to the client.
func (c *Conn) Reset() error {
	err := relay.Reset(c.stream)
	c.Wake()
	return err
}

// CloseWrite sends a FIN to the destination.
func (c *Conn) CloseWrite() error { return c.stream.CloseWrite() }

// LocalAddr is a *net.TCPAddr where the stream is TCP or runs over it.
func (c *Conn) LocalAddr() net.Addr { return c.stream.LocalAddr() }

// RemoteAddr is that of the stream.
func (c *Conn) RemoteAddr() net.Addr { return c.stream.RemoteAddr() }

// SetDeadline is that of net.Conn.
func (c *Conn) SetDeadline(t time.Time) error { return c.stream.SetDeadline(t) }

// SetReadDeadline is that of net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.stream.SetReadDeadline(t) }

// SetWriteDeadline is that of net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.stream.SetWriteDeadline(t) }
