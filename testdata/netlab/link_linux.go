package netlab

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const loopbackIndex = 1 // in every namespace

// labLinks is the group of the interfaces that veth makes, by which they can be found again.
const labLinks = 0x6c6162

// veth makes a pair of interfaces, one on each machine, brings both up and returns their
// indexes.
func veth(near *Machine, nearName string, far *Machine, farName string, mtu int) (nearIndex, farIndex int, err error) {
	pair := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: farName, PeerNamespace: netlink.NsFd(far.ns)}
	pair.Name = nearName
	pair.MTU = mtu
	pair.Group = labLinks
	if err := near.nl.LinkAdd(pair); err != nil {
		return 0, 0, fmt.Errorf("making the link between %s and %s: %w", nearName, farName, err)
	}
	nearLink, err := near.nl.LinkByName(nearName)
	if err != nil {
		return 0, 0, fmt.Errorf("finding %s: %w", nearName, err)
	}
	farLink, err := far.nl.LinkByName(farName)
	if err != nil {
		return 0, 0, fmt.Errorf("finding %s: %w", farName, err)
	}
	nearIndex, farIndex = nearLink.Attrs().Index, farLink.Attrs().Index
	if err := near.nl.LinkSetUp(nearLink); err != nil {
		return nearIndex, farIndex, fmt.Errorf("bringing %s up: %w", nearName, err)
	}
	if err := far.nl.LinkSetUp(farLink); err != nil {
		return nearIndex, farIndex, fmt.Errorf("bringing %s up: %w", farName, err)
	}
	if err := waitUp(near.nl, nearIndex); err != nil {
		return nearIndex, farIndex, err
	}
	return nearIndex, farIndex, waitUp(far.nl, farIndex)
}

// waitUp waits until the kernel has noticed that the link has a carrier; before that it sends nothing.
func waitUp(nl *netlink.Handle, index int) error {
	return poll("the carrier", func() (bool, error) {
		link, err := nl.LinkByIndex(index)
		if err != nil {
			return false, fmt.Errorf("looking at interface %d: %w", index, err)
		}
		return link.Attrs().OperState == netlink.OperUp, nil
	})
}

func linkAt(index int) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
}

// deleteClientLinks deletes all links that veth has made on the client. One by one, each would wait for the kernel to
// be sure that nobody uses it any more: some 30 ms.
func (l *Lab) deleteClientLinks() error {
	links, err := l.client.nl.LinkList()
	if err != nil {
		return fmt.Errorf("listing links: %w", err)
	}
	if !slices.ContainsFunc(links, func(link netlink.Link) bool { return link.Attrs().Group == labLinks }) {
		return nil
	}
	// The library deletes single links only. The request's socket is made on this thread, which is on the client.
	req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(labLinks)))
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("deleting the links: %w", err)
	}
	return nil
}

// setAddr adds or changes an address of an interface, with the properties of like. Unless it is to be tentative, it can
// be used when setAddr returns.
func (m *Machine) setAddr(index int, prefix netip.Prefix, like Addr) error {
	a := &netlink.Addr{IPNet: ipNet(prefix)}
	if prefix.Addr().Is6() {
		if !like.Tentative {
			a.Flags |= unix.IFA_F_NODAD
		}
		if like.Temporary {
			a.Flags |= unix.IFA_F_MANAGETEMPADDR
		}
	}
	a.ValidLft, a.PreferedLft = math.MaxUint32, math.MaxUint32 // for ever
	if like.Deprecated {
		a.PreferedLft = 0
	}
	if err := m.nl.AddrReplace(linkAt(index), a); err != nil || prefix.Addr().Is4() || like.Tentative {
		return err
	}
	return m.waitHeard(index, prefix.Addr())
}

// waitHeard waits until the machine takes in packets for an IPv6 address of its own. The kernel makes the local route
// some time after it has added the address, on loopback too, and last of all: by then it also has joined the group that
// neighbour solicitations are sent to (RFC 4291, 2.7.1). A datagram that comes too early is lost.
func (m *Machine) waitHeard(index int, addr netip.Addr) error {
	local := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, LinkIndex: index, Dst: ipNet(netip.PrefixFrom(addr, addr.BitLen()))}
	const sought = netlink.RT_FILTER_TABLE | netlink.RT_FILTER_TYPE | netlink.RT_FILTER_OIF | netlink.RT_FILTER_DST
	return poll(fmt.Sprintf("the local route of %v", addr), func() (bool, error) {
		found, err := m.nl.RouteListFiltered(netlink.FAMILY_V6, local, sought)
		if err != nil {
			return false, fmt.Errorf("listing local routes: %w", err)
		}
		return len(found) > 0, nil
	})
}

// route describes a route; no destination means the default route, no gateway an on-link one, table 0 the main one.
func route(index int, dst netip.Prefix, gateway netip.Addr, metric, table int) *netlink.Route {
	r := &netlink.Route{LinkIndex: index, Priority: metric, Table: table}
	if dst.IsValid() {
		r.Dst = ipNet(dst)
	}
	if gateway.IsValid() {
		r.Gw = gateway.AsSlice()
	} else {
		r.Scope = unix.RT_SCOPE_LINK
	}
	return r
}

// setRate limits both directions of a line to its rate, or lifts the limit.
func (l *Lab) setRate(ln *line) error {
	for _, end := range []struct {
		nl    *netlink.Handle
		index int
	}{{l.client.nl, ln.index}, {ln.isp.nl, ln.ispIndex}} {
		if err := shape(end.nl, end.index, ln.cfg.Rate, ln.cfg.MTU); err != nil {
			return fmt.Errorf("limiting the rate of %s to %d bit/s: %w", ln.cfg.Name, ln.cfg.Rate, err)
		}
	}
	return nil
}

// shape limits what an interface sends, with a token bucket of 5 ms and a queue of 50 ms, or a few packets.
func shape(nl *netlink.Handle, index int, bits uint64, mtu int) error {
	attrs := netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
	if bits == 0 {
		qdiscs, err := nl.QdiscList(linkAt(index))
		if err != nil {
			return err
		}
		for _, q := range qdiscs {
			if _, ok := q.(*netlink.Tbf); ok {
				return nl.QdiscDel(q)
			}
		}
		return nil
	}
	bytes := bits / 8
	packet := uint64(mtu + 14) // the link layer's header counts
	burst := max(bytes/200, 2*packet)
	return nl.QdiscReplace(&netlink.Tbf{
		QdiscAttrs: attrs,
		Rate:       bytes,
		Limit:      uint32(burst + max(bytes/20, 16*packet)),
		Buffer:     netlink.Xmittime(bytes, uint32(burst)),
	})
}
