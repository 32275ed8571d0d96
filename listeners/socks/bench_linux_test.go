package socks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"dispatch/testdata/loopback"
)

// BenchmarkConnect is a whole session of a client: connect, handshake, one byte there and back, close. The allocations and
// the CPU time are those of all three parties; "direct" is what client and server cost without a gateway.
func BenchmarkConnect(b *testing.B) {
	server := loopback.Serve(b, func(c *net.TCPConn) error {
		var one [1]byte
		if _, err := io.ReadFull(c, one[:]); err != nil {
			return err
		}
		if _, err := c.Write(one[:]); err != nil {
			return err
		}
		if _, err := c.Read(one[:]); !errors.Is(err, io.EOF) {
			return fmt.Errorf("%w instead of an end", err)
		}
		return nil
	})
	socks := serveSOCKS(b, gateway(b, nil))
	port := binary.BigEndian.AppendUint16(nil, server.Port())
	for _, c := range []struct {
		name  string
		to    netip.AddrPort
		steps []step
	}{
		{"socks5", socks, []step{
			{[]byte{5, 1, 0}, 2},
			{append([]byte{5, 1, 0, 1, 127, 0, 0, 1}, port...), 10},
		}},
		{"socks4a", socks, []step{
			{append(append([]byte{4, 1}, port...), "\x00\x00\x00\x01\x00server.test\x00"...), 8},
		}},
		{"direct", server, nil},
	} {
		b.Run(c.name, func(b *testing.B) {
			began := loopback.CPUTime(b)
			b.ReportAllocs()
			for b.Loop() {
				if err := session(c.to, c.steps); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((loopback.CPUTime(b)-began).Microseconds())/float64(b.N), "cpu-us/op")
		})
	}
}

// step is what a client sends, and how much it gets for it.
type step struct {
	say    []byte
	answer int
}

func session(to netip.AddrPort, steps []step) error {
	c, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer c.Close()
	var answer [16]byte
	for _, s := range append(steps, step{[]byte{'x'}, 1}) {
		if _, err := c.Write(s.say); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, answer[:s.answer]); err != nil {
			return err
		}
	}
	return nil
}
