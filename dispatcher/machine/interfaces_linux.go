package machine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// readInterfaces reads links and addresses with one netlink dump each, and the default routes as
// (*rtnetlink).routes does.
func readInterfaces() (list []Interface, routes map[int][]route, err error) {
	n, err := openNetlink()
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, n.close()) }()

	links, err := n.links()
	if err != nil {
		return nil, nil, fmt.Errorf("list links: %w", err)
	}
	list = make([]Interface, len(links))
	byIndex := make(map[int]*Interface, len(links))
	for i, l := range links {
		list[i] = Interface{Index: l.index, Name: l.name, Kind: l.interfaceKind(sysClassNet), Up: l.up()}
		byIndex[l.index] = &list[i]
	}
	if err := n.addresses(byIndex); err != nil {
		return nil, nil, fmt.Errorf("list addresses: %w", err)
	}
	routes, err = n.routes(links, byIndex)
	if err != nil {
		return nil, nil, fmt.Errorf("look up default routes: %w", err)
	}
	return list, routes, nil
}

// link is what RTM_NEWLINK tells.
type link struct {
	index    int
	name     string
	flags    uint32 // IFF_*
	hardware uint16 // ARPHRD_*
	software string // IFLA_INFO_KIND: "bridge", "tun", ...; empty for hardware
	port     string // IFLA_INFO_SLAVE_KIND: what it is a port of, "bridge", "bond", "vrf", ...; else empty
}

// up: IFF_RUNNING is the kernel's own "ifOperStatus is up or unknown", IFF_LOWER_UP the carrier.
func (l *link) up() bool {
	const all = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOWER_UP
	return l.flags&all == all
}

// skipStatistics is RTEXT_FILTER_SKIP_STATS: counters are most of a link's dump, and they are not wanted.
const skipStatistics = 1 << 3

func (n *rtnetlink) links() ([]link, error) {
	question := appendAttribute32(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_EXT_MASK, skipStatistics)
	answer, err := n.dump(unix.RTM_GETLINK, question)
	if err != nil {
		return nil, err
	}
	var links []link
	for m := range messages(answer) {
		if m.kind != unix.RTM_NEWLINK {
			continue
		}
		if l, ok := parseLink(m.body); ok {
			links = append(links, l)
		}
	}
	return links, nil
}

// parseLink reads a struct ifinfomsg and its attributes.
func parseLink(b []byte) (link, bool) {
	if len(b) < unix.SizeofIfInfomsg {
		return link{}, false
	}
	l := link{
		hardware: binary.NativeEndian.Uint16(b[2:]),
		index:    int(int32(binary.NativeEndian.Uint32(b[4:]))),
		flags:    binary.NativeEndian.Uint32(b[8:]),
	}
	for kind, value := range attributes(b[unix.SizeofIfInfomsg:]) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.name = unix.ByteSliceToString(value)
		case unix.IFLA_LINKINFO:
			for info, text := range attributes(value) {
				switch info {
				case unix.IFLA_INFO_KIND:
					l.software = unix.ByteSliceToString(text)
				case unix.IFLA_INFO_SLAVE_KIND:
					l.port = unix.ByteSliceToString(text)
				}
			}
		}
	}
	return l, l.index > 0 && l.name != ""
}

func (n *rtnetlink) addresses(byIndex map[int]*Interface) error {
	answer, err := n.dump(unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg))
	if err != nil {
		return err
	}
	for m := range messages(answer) {
		if m.kind != unix.RTM_NEWADDR {
			continue
		}
		index, a, ok := parseAddress(m.body)
		// The interface may be younger than the list of links; the next listing has both.
		if i := byIndex[index]; ok && i != nil {
			i.Addresses = append(i.Addresses, a)
		}
	}
	return nil
}

// parseAddress reads a struct ifaddrmsg and its attributes.
func parseAddress(b []byte) (index int, a Address, ok bool) {
	if len(b) < unix.SizeofIfAddrmsg {
		return 0, Address{}, false
	}
	bits := int(b[1])
	flags := uint32(b[2])
	index = int(int32(binary.NativeEndian.Uint32(b[4:])))
	var local, peer netip.Addr
	preferredOver := false
	for kind, value := range attributes(b[unix.SizeofIfAddrmsg:]) {
		switch kind {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(value)
		case unix.IFA_ADDRESS:
			peer, _ = netip.AddrFromSlice(value)
		case unix.IFA_FLAGS: // the same 8 flags as in the header, and more
			flags = uint32Of(value)
		case unix.IFA_CACHEINFO: // struct ifa_cacheinfo: preferred and valid lifetime in seconds
			preferredOver = len(value) >= 8 && uint32Of(value) == 0
		}
	}
	if !local.IsValid() {
		local = peer // IPv6 has IFA_LOCAL only where there is a peer
	}
	a = Address{
		Prefix:     onLinkPrefix(local, peer, bits),
		Tentative:  flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0,
		Deprecated: preferredOver || flags&unix.IFA_F_DEPRECATED != 0,
		// For IPv4 the same bit marks all but the first address of a network.
		Temporary: local.Is6() && flags&unix.IFA_F_TEMPORARY != 0,
	}
	return index, a, index > 0 && a.Prefix.IsValid()
}

// onLinkPrefix: the length belongs to the network of IFA_ADDRESS. On most links the local address is part of
// it. On a point-to-point link it is the network at the other end: a local address outside of that has no
// network of its own, whatever the length says.
func onLinkPrefix(local, address netip.Addr, bits int) netip.Prefix {
	if network := netip.PrefixFrom(address, bits); address.IsValid() && !network.Contains(local) {
		bits = local.BitLen()
	}
	return netip.PrefixFrom(local, bits)
}
