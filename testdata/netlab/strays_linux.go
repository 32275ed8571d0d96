package netlab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// WatchStrays has every ISP look out, until t ends, for packets that the client sends it with a source that is not of the
// line's prefixes: they were meant for another line. The function returned tells of those that came since it was called
// last, each as a line of text.
//
// Only what a program has sent counts: datagrams, and segments with a SYN, a FIN or data. The client's kernel answers what
// comes for a connection that is gone, or in TIME_WAIT over IPv6, by whichever route is the best, for the socket that was
// bound to the line is no more; and it sends ICMP as it likes.
func (l *Lab) WatchStrays(t testing.TB) func() []string {
	t.Helper()
	type watch struct {
		line string
		fd   int
	}
	var watches []watch
	for _, ln := range l.lines {
		for _, prefix := range []netip.Prefix{ln.cfg.IPv4, ln.cfg.IPv6} {
			if !prefix.IsValid() {
				continue
			}
			fd, err := ln.isp.captureForeign(prefix.Masked())
			if err != nil {
				t.Fatalf("netlab: watching for strays at %s: %v", ln.isp.name, err)
			}
			watches = append(watches, watch{ln.cfg.Name, fd})
			t.Cleanup(func() {
				if err := unix.Close(fd); err != nil {
					t.Errorf("netlab: the watch for strays: %v", err)
				}
			})
		}
	}
	return func() (strays []string) {
		t.Helper()
		packet := make([]byte, 128)
		for _, w := range watches {
			for {
				n, _, err := unix.Recvfrom(w.fd, packet, unix.MSG_DONTWAIT)
				if errors.Is(err, unix.EAGAIN) {
					break
				}
				if errors.Is(err, unix.ENETDOWN) {
					continue // a link that it watched went down: told once
				}
				if err != nil {
					t.Errorf("netlab: the watch for strays at %s: %v", w.line, err)
					break
				}
				if text := describeStray(packet[:n]); text != "" {
					strays = append(strays, w.line+": "+text)
				}
			}
		}
		return strays
	}
}

// captureForeign opens a packet socket on an ISP's router for what comes in from the client with a source that is not of
// the prefix, in the prefix's family.
func (m *Machine) captureForeign(prefix netip.Prefix) (fd int, err error) {
	core, err := m.nl.LinkByName(ispCore)
	if err != nil {
		return 0, fmt.Errorf("finding %s: %w", ispCore, err)
	}
	program, err := bpf.Assemble(foreign(prefix, uint32(core.Attrs().Index)))
	if err != nil {
		return 0, fmt.Errorf("assembling the filter: %w", err)
	}
	filter := make([]unix.SockFilter, len(program))
	for i, in := range program {
		filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	protocol := uint16(unix.ETH_P_IP)
	if prefix.Addr().Is6() {
		protocol = unix.ETH_P_IPV6
	}
	err = m.Do(func() error {
		// Without a protocol it takes in nothing until it is bound, with its filter in place.
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol<<8 | protocol>>8})
		}
		if err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		return nil
	})
	return fd, err
}

// foreign is a filter that takes packets, of the prefix's family and without their link layer's header, whose source is
// not in the prefix, unless they came in by the interface named.
func foreign(prefix netip.Prefix, except uint32) []bpf.Instruction {
	source := uint32(12) // in IPv4's header
	if prefix.Addr().Is6() {
		source = 8
	}
	program := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtInterfaceIndex},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: except, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}
	address := prefix.Addr().AsSlice()
	for bits, word := prefix.Bits(), uint32(0); bits > 0; bits, word = bits-32, word+4 {
		mask := ^uint32(0)
		if bits < 32 {
			mask <<= 32 - bits
		}
		program = append(program,
			bpf.LoadAbsolute{Off: source + word, Size: 4},
			bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(address[word:]) & mask, SkipTrue: 1},
			bpf.RetConstant{Val: 1 << 16}, // the whole packet
		)
	}
	return append(program, bpf.RetConstant{Val: 0})
}

// describeStray returns "" for a packet that no program has sent.
func describeStray(packet []byte) string {
	const tcpOffset, tcpFlags, fin, syn = 12, 13, 0x01, 0x02
	var source, destination netip.Addr
	var protocol byte
	var payload []byte
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		source, destination = netip.AddrFrom4([4]byte(packet[12:16])), netip.AddrFrom4([4]byte(packet[16:20]))
		protocol, payload = packet[9], packet[min(int(packet[0]&15)*4, len(packet)):]
	case len(packet) >= 40 && packet[0]>>4 == 6:
		source, destination = netip.AddrFrom16([16]byte(packet[8:24])), netip.AddrFrom16([16]byte(packet[24:40]))
		protocol, payload = packet[6], packet[40:]
	default:
		return fmt.Sprintf("no IP packet: %x", packet)
	}
	switch {
	case protocol == unix.IPPROTO_UDP && len(payload) >= 8:
		return fmt.Sprintf("UDP from %v to %v", source, netip.AddrPortFrom(destination, binary.BigEndian.Uint16(payload[2:])))
	case protocol == unix.IPPROTO_TCP && len(payload) > tcpFlags &&
		(payload[tcpFlags]&(fin|syn) != 0 || len(payload) > int(payload[tcpOffset]>>4)*4):
		return fmt.Sprintf("TCP from %v to %v, flags %#x", source, netip.AddrPortFrom(destination, binary.BigEndian.Uint16(payload[2:])), payload[tcpFlags])
	}
	return ""
}
