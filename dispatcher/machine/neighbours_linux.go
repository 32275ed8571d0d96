package machine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Neighbour is what the kernel knows of a machine on an interface's network.
type Neighbour struct {
	Addr netip.Addr
	// State has one of the NUD_ bits of linux/neighbour.h: NUD_REACHABLE, NUD_STALE, NUD_FAILED, ...
	State uint16
	// Router: it has called itself one (RFC 4861 section 4.4).
	Router bool
}

// Neighbours lists what the kernel knows of the machines of a family on the network of an interface.
func Neighbours(f Family, device int) (list []Neighbour, err error) {
	n, err := openNetlink()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	question := make([]byte, unix.SizeofNdMsg)
	question[0] = unix.AF_INET
	if f == IPv6 {
		question[0] = unix.AF_INET6
	}
	answer, err := n.dump(unix.RTM_GETNEIGH, question)
	if err != nil {
		return nil, fmt.Errorf("list the neighbours: %w", err)
	}
	for m := range messages(answer) {
		if m.kind != unix.RTM_NEWNEIGH {
			continue
		}
		if by, known, ok := parseNeighbour(m.body); ok && by == device {
			list = append(list, known)
		}
	}
	return list, nil
}

// parseNeighbour reads a struct ndmsg and its attributes.
func parseNeighbour(b []byte) (device int, n Neighbour, ok bool) {
	if len(b) < unix.SizeofNdMsg {
		return 0, Neighbour{}, false
	}
	n.State, n.Router = binary.NativeEndian.Uint16(b[8:]), b[10]&unix.NTF_ROUTER != 0
	for kind, value := range attributes(b[unix.SizeofNdMsg:]) {
		if kind == unix.NDA_DST {
			n.Addr, _ = netip.AddrFromSlice(value)
		}
	}
	return int(int32(binary.NativeEndian.Uint32(b[4:]))), n, n.Addr.IsValid()
}
