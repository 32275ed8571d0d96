package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
)

// maxDatagram is more than any server may send after being told ednsSize.
const maxDatagram = 4096

// try makes one exchange: query out, matching reply in.
func try(ctx context.Context, dial DialFunc, network string, server netip.AddrPort, query []byte) ([]byte, error) {
	reply, err := exchange(ctx, dial, network, server, query)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx) // not what its end did to the connection
		}
		return nil, fmt.Errorf("no answer over %s: %w", network, err)
	}
	return reply, nil
}

func exchange(ctx context.Context, dial DialFunc, network string, server netip.AddrPort, query []byte) ([]byte, error) {
	conn, err := dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	// The end of a context does not end a read; closing the connection does. Nothing is lost by closing it
	// twice, or by an error of closing what is not needed any more.
	closeConn := func() { _ = conn.Close() }
	defer closeConn()
	defer context.AfterFunc(ctx, closeConn)()
	if network == "udp" {
		return exchangeUDP(conn, query)
	}
	return exchangeTCP(conn, query)
}

// exchangeUDP reads on over datagrams that do not answer the query: they may be forged, to be taken for the
// answer or to make it be missed (RFC 5452 section 9).
func exchangeUDP(conn net.Conn, query []byte) ([]byte, error) {
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	buf := make([]byte, maxDatagram)
	for {
		n, err := conn.Read(buf)
		if tooLong(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if reply := buf[:n]; matches(reply, query) {
			return reply, nil
		}
	}
}

// exchangeTCP sends query and reads the reply, each behind its length (RFC 1035 section 4.2.2).
func exchangeTCP(conn net.Conn, query []byte) ([]byte, error) {
	// In one write, as some servers expect both in one segment (RFC 7766 section 8).
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(query)), uint16(len(query)))
	if _, err := conn.Write(append(framed, query...)); err != nil {
		return nil, err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	reply := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, reply); err != nil {
		return nil, err
	}
	if !matches(reply, query) {
		return nil, errors.New("the reply is not to the question")
	}
	return reply, nil
}
