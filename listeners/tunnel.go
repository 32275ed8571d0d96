package listeners

import (
	"time"

	"dispatch/dispatcher"
)

// Tunnel begins to copy between the client and dst and returns. First it sends dst what the client said ahead of the
// answer: early, which a library had read, then what this Conn still holds. When both directions have ended it closes
// both and calls done, once, maybe before Tunnel returns: with nil when both ended with a FIN. The session of dst has
// ended by then.
func (c *Conn) Tunnel(dst *dispatcher.Conn, early []byte, done func(error)) {
	client, err := c.open(dst, early)
	if err != nil {
		c.server.closeConn(c)
		done(err)
		return
	}
	c.tunnel.Store(dst)
	dst.Relay(client, func(err error) {
		c.server.closeConn(c)
		done(err)
	})
}

// open sends dst what the client said ahead, and returns the client's stream. After an error dst is closed.
func (c *Conn) open(dst *dispatcher.Conn, early []byte) (dispatcher.Stream, error) {
	if err := c.SetDeadline(time.Time{}); err != nil {
		return nil, dst.Abandon(dispatcher.ClientBroken, err)
	}
	stream, rest := c.Detach()
	for _, said := range [][]byte{early, rest} {
		if len(said) == 0 {
			continue
		}
		if _, err := dst.Write(said); err != nil {
			if abortErr := c.Abort(); abortErr != nil {
				c.server.log.Debug("resetting a client failed", "client", c.Client().String(), "error", abortErr)
			}
			return nil, dst.Abandon(dispatcher.DestinationBroken, err)
		}
	}
	return stream, nil
}
