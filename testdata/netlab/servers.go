package netlab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// Listen listens on TCP in the internet, at an address that is added if it is not there yet; port 0 is any. The
// listener can be used from any goroutine. It is closed when t ends; connections that it accepted are the caller's.
func (l *Lab) Listen(t testing.TB, addr netip.AddrPort) net.Listener {
	t.Helper()
	return inInternet(t, l, addr, func(c net.ListenConfig) (net.Listener, error) {
		return c.Listen(context.Background(), "tcp", addr.String())
	})
}

// ListenPacket is Listen for UDP.
func (l *Lab) ListenPacket(t testing.TB, addr netip.AddrPort) net.PacketConn {
	t.Helper()
	return inInternet(t, l, addr, func(c net.ListenConfig) (net.PacketConn, error) {
		return c.ListenPacket(context.Background(), "udp", addr.String())
	})
}

// inInternet makes a socket in the internet and has it closed when t ends.
func inInternet[S io.Closer](t testing.TB, l *Lab, addr netip.AddrPort, listen func(net.ListenConfig) (S, error)) S {
	t.Helper()
	if !addr.Addr().IsUnspecified() {
		l.ServerAddr(addr.Addr())
	}
	var s S
	err := l.Internet.Do(func() (err error) {
		s, err = listen(net.ListenConfig{})
		return err
	})
	if err != nil {
		t.Fatalf("netlab: listening in the internet on %v: %v", addr, err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("netlab: closing the listener on %v: %v", addr, err)
		}
	})
	return s
}

// EchoPeer runs a TCP server in the internet that writes the address and port it sees as its peer's, a newline, and
// ends its side; ReadPeer reads that. It takes what the client sends and stops when t ends. The address returned has
// the port that was chosen if it was 0.
func (l *Lab) EchoPeer(t testing.TB, addr netip.AddrPort) netip.AddrPort {
	t.Helper()
	ln := l.Listen(t, addr)
	s := &echoPeer{open: map[net.Conn]struct{}{}}
	s.running.Add(1)
	go s.accept(ln)
	t.Cleanup(func() {
		if err := s.stop(ln); err != nil {
			t.Errorf("netlab: the server on %v: %v", addr, err)
		}
	})
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// EchoPeerHTTP is EchoPeer over HTTP/1: every response's body is the peer's address and port and a newline.
func (l *Lab) EchoPeerHTTP(t testing.TB, addr netip.AddrPort) netip.AddrPort {
	t.Helper()
	ln := l.Listen(t, addr)
	server := &http.Server{ReadHeaderTimeout: peerTimeout, Handler: http.HandlerFunc(writePeer)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("netlab: closing the HTTP server on %v: %v", addr, err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("netlab: the HTTP server on %v ended: %v", addr, err)
		}
	})
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

func writePeer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	_, _ = fmt.Fprintln(w, r.RemoteAddr) // a client that has gone is not the server's concern
}

// ReadPeer reads to the end of r what EchoPeer or EchoPeerHTTP has written: the address and port that the server
// saw. An IPv4 address is returned as such.
func ReadPeer(r io.Reader) (netip.AddrPort, error) {
	text, err := io.ReadAll(io.LimitReader(r, 256))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("reading the peer's address: %w", err)
	}
	peer, found := strings.CutSuffix(string(text), "\n")
	if !found {
		return netip.AddrPort{}, fmt.Errorf("reading the peer's address: %q is not a whole line", text)
	}
	ap, err := netip.ParseAddrPort(peer)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("reading the peer's address: %w", err)
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}
