//go:build darwin || freebsd || linux

package machine

import "encoding/binary"

// routingChange tells whether a message of a routing socket may be about an interface, an address of one or a default
// route. Most are not: answers to what other programs asked, neighbours that were found or lost, and on macOS a route
// to each host that is talked to. It is apart from the system calls so that it is tested on Linux too; the numbers are
// those of net/route.h, which macOS and FreeBSD share.
func routingChange(b []byte) bool {
	const (
		add, remove, change    = 0x1, 0x2, 0x3 // RTM_ADD, RTM_DELETE, RTM_CHANGE
		newAddress, delAddress = 0xc, 0xd      // RTM_NEWADDR, RTM_DELADDR
		link, link2            = 0xe, 0x12     // RTM_IFINFO, RTM_IFINFO2 (macOS)
		arrival                = 0x11          // RTM_IFANNOUNCE (FreeBSD)
		toHost                 = 0x4           // RTF_HOST
	)
	// Every message begins with unsigned short length, unsigned char version and type; those of routes go on with
	// unsigned short index, two unused bytes, int flags.
	if len(b) < 4 {
		return false
	}
	switch b[3] {
	case add, remove, change:
		return len(b) < 12 || binary.NativeEndian.Uint32(b[8:])&toHost == 0
	case newAddress, delAddress, link, link2, arrival:
		return true
	}
	return false
}
