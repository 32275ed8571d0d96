package machine

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/windows"
)

// readInterfaces reads links and addresses with GetAdaptersAddresses, and the routes with GetIpForwardTable2: the
// adapters' own list of routers lacks the default routes of VPNs, which have none.
func readInterfaces() ([]Interface, map[int][]route, error) {
	buffer, err := readAdapters()
	if err != nil {
		return nil, nil, fmt.Errorf("list adapters: %w", err)
	}
	var list []Interface
	adapters := make(map[uint64]*windows.IpAdapterAddresses) // by LUID, which alone is one per interface for sure
	for a := firstAdapter(buffer); a != nil; a = a.Next {
		i := Interface{
			Index: adapterIndex(a),
			Name:  windows.UTF16PtrToString(a.FriendlyName),
			Kind:  adapterKind(a.IfType),
			Up:    a.OperStatus == windows.IfOperStatusUp || a.OperStatus == windows.IfOperStatusUnknown,
		}
		if i.Index == 0 {
			continue // neither IPv4 nor IPv6 runs on it
		}
		for u := a.FirstUnicastAddress; u != nil; u = u.Next {
			if addr, ok := adapterAddress(u); ok {
				i.Addresses = append(i.Addresses, addr)
			}
		}
		list = append(list, i)
		adapters[a.Luid] = a
	}
	routes, err := readRoutes(adapters)
	if err != nil {
		return nil, nil, fmt.Errorf("list routes: %w", err)
	}
	return list, routes, nil
}

// adapterIndex: an interface has one number, in the field of each family that runs on it; the other is 0. (The
// fields date from Windows XP, where the families numbered on their own.)
func adapterIndex(a *windows.IpAdapterAddresses) int {
	if a.IfIndex != 0 {
		return int(a.IfIndex)
	}
	return int(a.Ipv6IfIndex)
}

// readAdapters returns a list of windows.IpAdapterAddresses that points into itself; nil when there is none.
func readAdapters() ([]byte, error) {
	const flags = windows.GAA_FLAG_SKIP_ANYCAST | windows.GAA_FLAG_SKIP_MULTICAST | windows.GAA_FLAG_SKIP_DNS_SERVER
	size := uint32(16 << 10) // Microsoft's advice; the OS tells when more is needed
	for {
		buffer := make([]byte, size)
		err := windows.GetAdaptersAddresses(windows.AF_UNSPEC, flags, 0, firstAdapter(buffer), &size)
		switch {
		case err == nil:
			return buffer, nil
		case errors.Is(err, windows.ERROR_NO_DATA):
			return nil, nil
		case !errors.Is(err, windows.ERROR_BUFFER_OVERFLOW) || size <= uint32(len(buffer)):
			return nil, err
		}
	}
}

func firstAdapter(buffer []byte) *windows.IpAdapterAddresses {
	if len(buffer) == 0 {
		return nil
	}
	return (*windows.IpAdapterAddresses)(unsafe.Pointer(&buffer[0]))
}

// adapterKind sorts by the IANA ifType. 23 is dial-up and PPPoE, and also the VPN types Windows has built in.
func adapterKind(ifType uint32) Kind {
	switch ifType {
	case windows.IF_TYPE_ETHERNET_CSMACD:
		return KindEthernet
	case windows.IF_TYPE_IEEE80211:
		return KindWiFi
	case ifTypeWWANPP, ifTypeWWANPP2:
		return KindMobile
	case windows.IF_TYPE_PPP:
		return KindPPP
	case windows.IF_TYPE_TUNNEL, ifTypePropVirtual:
		return KindTunnel
	case ifTypeBridge:
		return KindVirtual
	case windows.IF_TYPE_SOFTWARE_LOOPBACK:
		return KindLoopback
	}
	return KindUnknown
}

// Types of ipifcons.h that package windows does not have.
const (
	ifTypePropVirtual = 53 // Wintun and WireGuard
	ifTypeBridge      = 209
	ifTypeWWANPP      = 243 // GSM and its successors
	ifTypeWWANPP2     = 244 // CDMA
)

func adapterAddress(u *windows.IpAdapterUnicastAddress) (Address, bool) {
	addr, ok := netip.AddrFromSlice(u.Address.IP())
	if !ok {
		return Address{}, false
	}
	a := Address{
		Prefix: netip.PrefixFrom(addr, int(u.OnLinkPrefixLength)),
		// Invalid is what an address of a disconnected interface is.
		Tentative: u.DadState == windows.IpDadStateInvalid || u.DadState == windows.IpDadStateTentative ||
			u.DadState == windows.IpDadStateDuplicate,
		Deprecated: u.DadState == windows.IpDadStateDeprecated || u.PreferredLifetime == 0,
		// Permanent addresses are random too by default, but marked as derived from the link layer.
		Temporary: addr.Is6() && u.SuffixOrigin == windows.IpSuffixOriginRandom,
	}
	return a, a.Prefix.IsValid()
}

// readRoutes reads the whole table: Windows has no other way, and is no router of the internet's core.
func readRoutes(adapters map[uint64]*windows.IpAdapterAddresses) (map[int][]route, error) {
	var table *windows.MibIpForwardTable2
	err := windows.GetIpForwardTable2(windows.AF_UNSPEC, &table)
	if errors.Is(err, windows.ERROR_NOT_FOUND) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer windows.FreeMibTable(unsafe.Pointer(table))
	routes := make(map[int][]route)
	if table.NumEntries == 0 {
		return routes, nil
	}
	rows := table.Rows()
	for n := range rows {
		if a := adapters[rows[n].InterfaceLuid]; a != nil {
			if r, ok := forwardRoute(&rows[n], a); ok {
				index := adapterIndex(a)
				routes[index] = append(routes[index], r)
			}
		}
	}
	return routes, nil
}

// forwardRoute reads a row of the table. Windows compares routes by the sum of their own and their interface's
// metric.
func forwardRoute(row *windows.MibIpForwardRow2, a *windows.IpAdapterAddresses) (route, bool) {
	dst, router := sockaddr(&row.DestinationPrefix.Prefix), sockaddr(&row.NextHop)
	r := route{to: netip.PrefixFrom(dst, int(row.DestinationPrefix.PrefixLength))}
	if dst.Is4() {
		r.metric = int(row.Metric) + int(a.Ipv4Metric)
	} else {
		r.metric = int(row.Metric) + int(a.Ipv6Metric)
	}
	if !router.IsUnspecified() {
		r.router = router // else the destinations are on the link, as with most VPNs
	}
	return r, r.to.IsValid() && row.Loopback == 0
}

// sockaddr reads a SOCKADDR_INET; the zero Addr when it holds none.
func sockaddr(s *windows.RawSockaddrInet) netip.Addr {
	switch s.Family {
	case windows.AF_INET:
		return netip.AddrFrom4((*windows.RawSockaddrInet4)(unsafe.Pointer(s)).Addr)
	case windows.AF_INET6:
		return netip.AddrFrom16((*windows.RawSockaddrInet6)(unsafe.Pointer(s)).Addr)
	}
	return netip.Addr{}
}
