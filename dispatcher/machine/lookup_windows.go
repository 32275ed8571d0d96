package machine

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/windows"
)

// getBestRoute2 is what package windows lacks; Windows has had it since Vista.
var getBestRoute2 = windows.NewLazySystemDLL("iphlpapi.dll").NewProc("GetBestRoute2")

func lookup(dst netip.Addr, device int, source netip.Addr) (Path, error) {
	if err := getBestRoute2.Find(); err != nil {
		return Path{}, fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	to := newSockaddr(dst)
	var from *windows.RawSockaddrInet
	if source.IsValid() {
		from = newSockaddr(source)
	}
	var row windows.MibIpForwardRow2
	var best windows.RawSockaddrInet
	// InterfaceLuid, InterfaceIndex, SourceAddress, DestinationAddress, AddressSortOptions, BestRoute, BestSourceAddress.
	code, _, _ := getBestRoute2.Call(0, uintptr(device), uintptr(unsafe.Pointer(from)), uintptr(unsafe.Pointer(to)), 0,
		uintptr(unsafe.Pointer(&row)), uintptr(unsafe.Pointer(&best)))
	switch err := windows.Errno(code); err {
	case windows.ERROR_SUCCESS:
	case windows.ERROR_NETWORK_UNREACHABLE, windows.ERROR_HOST_UNREACHABLE, windows.ERROR_NOT_FOUND, windows.ERROR_FILE_NOT_FOUND:
		return Path{}, fmt.Errorf("%w: %w", ErrNoRoute, err)
	default:
		return Path{}, fmt.Errorf("GetBestRoute2: %w", err)
	}
	p := Path{
		Device: int(row.InterfaceIndex), Source: sockaddr(&best), Metric: int(row.Metric),
		To: netip.PrefixFrom(sockaddr(&row.DestinationPrefix.Prefix), int(row.DestinationPrefix.PrefixLength)),
	}
	if router := sockaddr(&row.NextHop); !router.IsUnspecified() {
		p.Router = router
	}
	return p, nil
}

func newSockaddr(a netip.Addr) *windows.RawSockaddrInet {
	s := new(windows.RawSockaddrInet)
	if a.Is4() {
		*(*windows.RawSockaddrInet4)(unsafe.Pointer(s)) = windows.RawSockaddrInet4{Family: windows.AF_INET, Addr: a.As4()}
	} else {
		*(*windows.RawSockaddrInet6)(unsafe.Pointer(s)) = windows.RawSockaddrInet6{Family: windows.AF_INET6, Addr: a.As16()}
	}
	return s
}
