package listeners

import (
	"time"

	"dispatch/dispatcher"
)

// Tunnel copies between the client and dst until both directions have ended, and closes both. First it sends dst
// what the client said ahead of the answer: early, which a library had read, then what this Conn still holds. It
// returns nil when both directions ended with a FIN; the session of dst has ended by then.
func (c *Conn) Tunnel(dst *dispatcher.Conn, early []byte) error {
	defer c.server.closeConn(c)
	if err := c.SetDeadline(time.Time{}); err != nil {
		return dst.Abandon(dispatcher.ClientBroken, err)
	}
	tcp, rest := c.Detach()
	for _, said := range [][]byte{early, rest} {
		if len(said) == 0 {
			continue
		}
		if _, err := dst.Write(said); err != nil {
			if abortErr := c.Abort(); abortErr != nil {
				c.server.log.Debug("resetting a client failed", "client", c.Client().String(), "error", abortErr)
			}
			return dst.Abandon(dispatcher.DestinationBroken, err)
		}
	}
	return dst.Relay(tcp)
}
