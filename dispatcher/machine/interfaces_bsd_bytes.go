//go:build darwin || freebsd || linux

// The parts of the BSD listing that are mere bytes, apart from the system calls so that they are tested on
// Linux too. Offsets and numbers are those of net/if_media.h, netinet6/in6_var.h and net/route.h, which macOS and
// FreeBSD share.

package machine

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"net"
	"net/netip"
	"strings"
)

const interfaceNameSize = 16 // IFNAMSIZ, with the final NUL

// media is what a driver tells about the wire: struct ifmediareq.
type media struct {
	kind byte // IFM_ETHER, IFM_IEEE80211, ...; 0 is unknown
	// noCarrier: the driver knows the state of the wire, and it is not connected.
	noCarrier bool
}

const (
	mediaEthernet = 0x20
	mediaWiFi     = 0x80
)

// parseMedia reads a struct ifmediareq: char name[16], then int32 current, mask, status, active.
func parseMedia(b []byte) media {
	const (
		kindMask    = 0xe0 // IFM_NMASK
		statusValid = 1    // IFM_AVALID
		statusOn    = 2    // IFM_ACTIVE
	)
	if len(b) < 32 {
		return media{}
	}
	current, status := binary.NativeEndian.Uint32(b[16:]), binary.NativeEndian.Uint32(b[24:])
	return media{
		kind:      byte(current & kindMask),
		noCarrier: status&(statusValid|statusOn) == statusValid,
	}
}

// bsdKind sorts an interface by the driver's name, which users cannot change on macOS and seldom do on FreeBSD,
// and else by its media.
func bsdKind(name string, flags net.Flags, m media) Kind {
	if flags&net.FlagLoopback != 0 {
		return KindLoopback
	}
	driver := strings.TrimRight(name, "0123456789")
	if strings.HasPrefix(name, "epair") {
		driver = "epair" // its two ends are epair0a and epair0b
	}
	switch driver {
	case "utun", "ipsec", "gif", "stf", "tun", "tap", "gre", "wg", "ovpn":
		return KindTunnel
	case "ppp":
		return KindPPP
	case "pdp_ip":
		return KindMobile
	case "bridge", "vmenet", "vmnet", "feth", "ap", "awdl", "llw", "p2p", "anpi", // macOS
		"epair", "vxlan", "vnet", "disc", "pflog", "pfsync", "enc": // FreeBSD
		return KindVirtual
	case "vlan", "bond", "lagg":
		return KindEthernet
	}
	switch {
	case m.kind == mediaWiFi:
		return KindWiFi
	case m.kind == mediaEthernet:
		return KindEthernet
	case flags&net.FlagPointToPoint != 0:
		return KindTunnel
	}
	return KindUnknown
}

const addressRequestSize = 288 // sizeof(struct in6_ifreq)

// newAddressRequest makes the struct in6_ifreq that asks for an address's flags: the interface's name, then a
// struct sockaddr_in6. family is the OS's AF_INET6; index is the scope of a link-local address.
func newAddressRequest(name string, family byte, addr netip.Addr, index int) []byte {
	const sizeofSockaddr = 28
	b := make([]byte, addressRequestSize)
	copy(b[:interfaceNameSize-1], name)
	sockaddr := b[interfaceNameSize:]
	sockaddr[0], sockaddr[1] = sizeofSockaddr, family
	ip := addr.As16()
	copy(sockaddr[8:24], ip[:])
	if addr.IsLinkLocalUnicast() {
		binary.NativeEndian.PutUint32(sockaddr[24:], uint32(index))
	}
	return b
}

// applyAddressFlags reads the answer: int ifru_flags6, in the place of the socket address.
func applyAddressFlags(a *Address, answer []byte) {
	const (
		tentative  = 0x02 // IN6_IFF_TENTATIVE and so on
		duplicated = 0x04
		detached   = 0x08 // its link went away; duplicates are looked for again when it is back
		deprecated = 0x10
		temporary  = 0x80
	)
	if len(answer) < interfaceNameSize+4 {
		return
	}
	flags := binary.NativeEndian.Uint32(answer[interfaceNameSize:])
	a.Tentative = flags&(tentative|duplicated|detached) != 0
	a.Deprecated = flags&deprecated != 0
	a.Temporary = flags&temporary != 0
}

// routingMessages cuts a routing table into its messages, each of which starts with its length, up to the first
// malformed one.
func routingMessages(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(b) >= 4 {
			size := int(binary.NativeEndian.Uint16(b))
			if size < 4 || size > len(b) || !yield(b[:size]) {
				return
			}
			b = b[size:]
		}
	}
}

// maskedPrefix joins a destination and its netmask, of 4 or 16 bytes each; invalid where they do not fit or the
// mask has gaps.
func maskedPrefix(dst, mask []byte) netip.Prefix {
	addr, ok := netip.AddrFromSlice(dst)
	if !ok || len(mask) != len(dst) {
		return netip.Prefix{}
	}
	ones, gap := 0, false
	for _, b := range mask {
		n := bits.LeadingZeros8(^b)
		if gap && b != 0 || byte(0xff<<(8-n)) != b {
			return netip.Prefix{}
		}
		ones, gap = ones+n, gap || n < 8
	}
	return netip.PrefixFrom(addr, ones)
}
