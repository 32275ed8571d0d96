package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
)

// dialer opens a connection to a service of a contender's server, in the contender's way. The caller closes it.
type dialer func(ctx context.Context, service int) (net.Conn, error)

// straight returns a dialer that connects to the server itself.
func straight(server netip.AddrPort) dialer {
	return func(ctx context.Context, service int) (net.Conn, error) { return dial(ctx, at(server, service)) }
}

// forwarded returns a dialer that connects to where a service is forwarded from.
func forwarded(by *proxy) dialer {
	return func(ctx context.Context, service int) (net.Conn, error) { return dial(ctx, by.forward[service]) }
}

// through returns a dialer that connects to the proxy and has handshake ask for the service.
func through(proxy, server netip.AddrPort, handshake func(net.Conn, netip.AddrPort) error) dialer {
	return func(ctx context.Context, service int) (net.Conn, error) {
		conn, err := dial(ctx, proxy)
		if err != nil {
			return nil, err
		}
		if err := handshake(conn, at(server, service)); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return conn, nil
	}
}

// dial does without keep-alive: its socket options would be a larger part of a direct connection than of a proxied one.
func dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return conn, nil
}

// socks5 asks as most clients do: the method first, and, when it is agreed on, the address (RFC 1928).
func socks5(conn net.Conn, target netip.AddrPort) error {
	var buf [4 + 16 + 2]byte
	if _, err := conn.Write([]byte{5, 1, 0}); err != nil {
		return fmt.Errorf("SOCKS5 greeting: %w", err)
	}
	if _, err := io.ReadFull(conn, buf[:2]); err != nil {
		return fmt.Errorf("SOCKS5 method: %w", err)
	}
	if buf[0] != 5 || buf[1] != 0 {
		return fmt.Errorf("SOCKS5 method: got % x", buf[:2])
	}
	ip := target.Addr().As4()
	request := append([]byte{5, 1, 0, 1}, ip[:]...)
	request = append(request, byte(target.Port()>>8), byte(target.Port()))
	if _, err := conn.Write(request); err != nil {
		return fmt.Errorf("SOCKS5 request: %w", err)
	}
	// In one call where it comes in one piece. No server here speaks first, so nothing of the tunnel is taken.
	const short = 4 + 4 + 2
	n, err := io.ReadAtLeast(conn, buf[:], short)
	if err != nil {
		return fmt.Errorf("SOCKS5 reply: %w", err)
	}
	if buf[1] != 0 {
		return fmt.Errorf("SOCKS5 reply: refused with code %d", buf[1])
	}
	switch buf[3] {
	case 1:
	case 4:
		if _, err := io.ReadFull(conn, buf[n:]); err != nil {
			return fmt.Errorf("SOCKS5 reply: %w", err)
		}
	default:
		return fmt.Errorf("SOCKS5 reply: address of type %d", buf[3])
	}
	return nil
}

// httpConnect asks with CONNECT (RFC 9110, section 9.3.6).
func httpConnect(conn net.Conn, target netip.AddrPort) error {
	if _, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target); err != nil {
		return fmt.Errorf("CONNECT: %w", err)
	}
	var buf [4096]byte
	for n := 0; n < len(buf); {
		got, err := conn.Read(buf[n:])
		n += got
		if bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
			if status := buf[:n]; !bytes.HasPrefix(status, []byte("HTTP/1.1 200")) && !bytes.HasPrefix(status, []byte("HTTP/1.0 200")) {
				line, _, _ := bytes.Cut(status, []byte("\r\n"))
				return fmt.Errorf("CONNECT: answered %q", line)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("CONNECT: answer: %w", err)
		}
	}
	return fmt.Errorf("CONNECT: the answer's head is longer than %d bytes", len(buf))
}
