package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
)

// What a contender's server does, each on a port of its own. Every contender has a server of its own, so that the
// ports that connections to one have used up (TIME_WAIT) do not slow the connections to another.
const (
	serviceEcho = iota // sends back what it gets
	serviceBulk        // see bulk
	serviceHTTP        // answers each request with bodySize bytes
	services
)

// bodySize is that of a small object: most of a request's cost is not in its bytes.
const bodySize = 512

// Directions of a bulk transfer: its first byte. A count of bytes follows, big endian in 8 bytes.
const (
	bulkDown = 'd' // the server sends that many and ends
	bulkUp   = 'u' // the server reads that many, or to the client's end, and answers with how many they were
)

const bulkChunk = 256 << 10

// loopback is where everything listens.
var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// at is where a service of the server whose first port is server's listens.
func at(server netip.AddrPort, service int) netip.AddrPort {
	return netip.AddrPortFrom(server.Addr(), server.Port()+uint16(service))
}

// serve is the process of the servers. Each argument is the first of a contender's ports.
func serve(args []string) error {
	if err := raiseDescriptors(); err != nil {
		return err
	}
	ended := make(chan error)
	for _, arg := range args {
		first, err := strconv.ParseUint(arg, 10, 16)
		if err != nil {
			return err
		}
		for service := range services {
			l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at(netip.AddrPortFrom(loopback, uint16(first)), service)))
			if err != nil {
				return err
			}
			go func() { ended <- serveOn(l, service) }()
		}
	}
	return <-ended
}

func serveOn(l *net.TCPListener, service int) error {
	if service == serviceHTTP {
		s := http.Server{Handler: smallObject(bytes.Repeat([]byte{'x'}, bodySize))}
		return s.Serve(l)
	}
	handle := echo
	if service == serviceBulk {
		handle = bulk
	}
	for {
		conn, err := l.AcceptTCP()
		if err != nil {
			return err
		}
		go func() {
			// A client that leaves early is part of the load, and sees its own error.
			_ = handle(conn)
			_ = conn.Close()
		}()
	}
}

func smallObject(body []byte) http.HandlerFunc {
	length := strconv.Itoa(len(body))
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Length", length)
		_, _ = w.Write(body) // the client notices
	}
}

func echo(conn *net.TCPConn) error {
	buf := make([]byte, 64)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return err
		}
	}
}

func bulk(conn *net.TCPConn) error {
	var head [9]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	rest := int64(binary.BigEndian.Uint64(head[1:]))
	buf := make([]byte, bulkChunk)
	switch head[0] {
	case bulkDown:
		for rest > 0 {
			n, err := conn.Write(buf[:min(rest, bulkChunk)])
			rest -= int64(n)
			if err != nil {
				return err
			}
		}
		return nil
	case bulkUp:
		var got int64
		for got < rest {
			n, err := conn.Read(buf)
			got += int64(n)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
		}
		return binary.Write(conn, binary.BigEndian, got)
	}
	return fmt.Errorf("bulk transfer in direction %q", head[0])
}
