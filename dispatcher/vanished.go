package dispatcher

import (
	"net"

	"dispatch/dispatcher/uplink"
)

// Stranded tells whether the connection left from an address that this machine does not have any more: nothing will
// come back on it.
func (c *Conn) Stranded(now *uplink.View) bool {
	local, ok := c.stream.LocalAddr().(*net.TCPAddr)
	return ok && c.uplink != nil && !now.Place(local.AddrPort().Addr()).Own
}

// ResetStranded resets the sessions whose connections are Stranded, so that their applications connect anew at once: the
// kernel would leave them to wait for many minutes. It returns how many there were.
func (d *Dispatcher) ResetStranded(now *uplink.View) int {
	d.latest.Store(now) // before the look at the sessions, for Serve looks in the other order
	return d.reset(func(c *Conn) bool { return c.Stranded(now) })
}

// ResetLine resets the sessions that a removed line carries, and those that are about to be; it returns how many there were.
func (d *Dispatcher) ResetLine(u *uplink.Uplink) int {
	u.End() // before the look at the sessions, for Serve looks in the other order
	return d.reset(func(c *Conn) bool { return c.uplink == u })
}

// resetIfLate resets a connection that was not its session's yet when ResetStranded or ResetLine looked for those that they
// concern.
func (c *Conn) resetIfLate(latest *uplink.View) {
	over := c.uplink != nil && c.uplink.Ended()
	if news := newsOf(latest); news != c.news {
		c.news = news
		over = over || c.Stranded(latest)
	}
	if over {
		_ = c.Reset() // whoever uses it is told
	}
}

// newsOf numbers the views that ResetStranded was called with; 0: with none yet. A number is smaller than a pointer, and
// there is one in each connection.
func newsOf(latest *uplink.View) uint32 {
	if latest == nil {
		return 0
	}
	return uint32(latest.Generation)
}

// ResetAll resets all sessions' connections, so that nothing waits for their destinations any more.
func (d *Dispatcher) ResetAll() { d.reset(func(*Conn) bool { return true }) }

func (d *Dispatcher) reset(which func(*Conn) bool) int {
	var some []*Conn
	d.ledger.mu.Lock()
	for s := d.ledger.live; s != nil; s = s.next {
		if c := s.conn.Load(); c != nil && which(c) {
			some = append(some, c)
		}
	}
	d.ledger.mu.Unlock()
	for _, c := range some {
		if err := c.Reset(); err != nil {
			d.log.Debug("resetting a connection failed", "destination", c.destination().String(), "error", err)
		}
	}
	return len(some)
}

// Doubt tells the Observer that the connection is silent for longer than expected.
func (d *Dispatcher) Doubt(c *Conn) {
	if c.uplink != nil && d.observer != nil {
		d.observer.Doubted(c.uplink, c.Family())
	}
}
