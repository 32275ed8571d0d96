package listeners

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// prefixSize holds the greeting of any SOCKS client, so that sniffing costs no system call of its own.
const prefixSize = 512

// sniff waits for the client's first bytes and returns the handler of its protocol, nil when there is none or the
// client left. The handshake's deadline stays set: the handler clears it.
func (s *Server) sniff(l *listener, c *Conn) Handler {
	if err := c.stream.SetDeadline(time.Now().Add(s.handshake)); err != nil {
		s.log.Debug("setting a client's deadline failed", "client", c.Client().String(), "error", err)
		return nil
	}
	buf := make([]byte, prefixSize)
	n, err := c.stream.Read(buf)
	if n == 0 {
		if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
			s.log.Debug("client said nothing", "listener", l.profile.Name, "client", c.Client().String(), "error", err)
		}
		return nil
	}
	c.prefix = buf[:n]
	kind, problem := protocolOf(buf[0])
	if problem != "" {
		s.log.Debug("client speaks no proxy protocol", "listener", l.profile.Name, "client", c.Client().String(),
			"first_byte", buf[0], "hint", problem)
		return nil
	}
	if kind != l.kind && s.strangers.first(c.Client().Addr(), l.profile.Name) {
		s.log.Debug("client speaks another protocol than this listener is for; served all the same",
			"listener", l.profile.Name, "client", c.Client().Addr().String(), "speaks", kind)
	}
	return s.handlers[kind]
}

// protocolOf tells the protocol by a connection's first byte: SOCKS begins with its version, an HTTP request with a
// letter of its method.
func protocolOf(first byte) (kind Kind, problem string) {
	switch {
	case first == 4 || first == 5:
		return SOCKS, ""
	case 'A' <= first && first <= 'Z' || 'a' <= first && first <= 'z':
		return HTTP, ""
	case first == 0x16:
		return "", "it began a TLS handshake; give the application an http:// or socks5:// proxy address, not https://"
	}
	return "", "it is neither SOCKS nor HTTP"
}

// maxStrangers bounds the memory of clients that were reported.
const maxStrangers = 1024

// strangers remembers which clients have been reported to speak another protocol than a listener is for.
type strangers struct {
	mu   sync.Mutex
	seen map[stranger]struct{}
}

type stranger struct {
	client   netip.Addr
	listener string
}

// first tells whether a client is to be reported for a listener, and takes it as reported. When there are too many it
// forgets all.
func (s *strangers) first(client netip.Addr, listener string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := stranger{client, listener}
	if _, ok := s.seen[key]; ok {
		return false
	}
	if s.seen == nil || len(s.seen) >= maxStrangers {
		s.seen = make(map[stranger]struct{})
	}
	s.seen[key] = struct{}{}
	return true
}
