package uplink

import (
	"context"
	"net"
	"net/netip"
)

// Target is where a stream is to go.
type Target struct {
	// Host is the name or address that a client asked for; empty on the gateway's own errands.
	Host string
	Port uint16
	// Addr is the one of Host's addresses that is to be connected to.
	Addr netip.Addr
}

// To is the target at an address.
func To(dst netip.AddrPort) Target { return Target{Addr: dst.Addr(), Port: dst.Port()} }

// Stream is a connection whose directions end each on its own.
type Stream interface {
	net.Conn
	// CloseWrite ends what is sent, as a FIN does.
	CloseWrite() error
}

// Dialer is a way out: an uplink, or none in particular.
type Dialer interface {
	// DialStream connects to the target. The caller closes the stream.
	DialStream(ctx context.Context, to Target) (Stream, error)
}

// Direct is the Dialer that binds to no line, for destinations that are none's business: see Place.Direct.
type Direct struct{}

// DialStream connects by TCP.
func (Direct) DialStream(ctx context.Context, to Target) (Stream, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive}
	conn, err := d.DialTCP(ctx, "tcp", netip.AddrPort{}, netip.AddrPortFrom(to.Addr, to.Port))
	if err != nil {
		return nil, err // not conn: a nil pointer in an interface is not nil
	}
	return conn, nil
}

// DialUDP makes a UDP socket that is connected to dst. The caller closes it.
func (Direct) DialUDP(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialUDP(ctx, "udp", netip.AddrPort{}, dst)
	if err != nil {
		return nil, err
	}
	return conn, nil
}
