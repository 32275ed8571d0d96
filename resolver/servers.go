package resolver

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// dnsPort is where a DNS server listens if nothing else is said (RFC 1035 section 4.2).
const dnsPort = 53

const serverForms = "write an address such as 1.1.1.1, 1.1.1.1:5353, 2606:4700:4700::1111 or [2606:4700:4700::1111]:53"

// ParseServer reads the address of a DNS server: an IP address, with a port where it is not 53. An IPv6 address
// with a port stands in brackets. Names are refused: there would be nobody to resolve them. No other
// address that users write goes without a port, so this has a parser of its own.
func ParseServer(s string) (netip.AddrPort, error) {
	if s == "" {
		return netip.AddrPort{}, errors.New("empty DNS server: " + serverForms)
	}
	if strings.Contains(s, "://") {
		return netip.AddrPort{}, fmt.Errorf("DNS server %q: only plain DNS over UDP and TCP is spoken; %s", s, serverForms)
	}
	bare := s
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		bare = s[1 : len(s)-1]
	}
	var server netip.AddrPort
	if addr, err := netip.ParseAddr(bare); err == nil && (bare == s || addr.Is6()) {
		server = netip.AddrPortFrom(addr, dnsPort)
	} else if server, err = netip.ParseAddrPort(s); err != nil {
		return netip.AddrPort{}, fmt.Errorf("DNS server %q is not an IP address with or without a port; %s", s, serverForms)
	}
	if err := checkServer(server); err != nil {
		return netip.AddrPort{}, err
	}
	return unmapPort(server), nil
}

// ParseServers reads servers separated by commas, as ParseServer does each, in their order and without
// duplicates. Spaces around one are ignored.
func ParseServers(list string) ([]netip.AddrPort, error) {
	var servers []netip.AddrPort
	for part := range strings.SplitSeq(list, ",") {
		server, err := ParseServer(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		if !slices.Contains(servers, server) {
			servers = append(servers, server)
		}
	}
	return servers, nil
}

// checkServer refuses what cannot be the address of one server.
func checkServer(server netip.AddrPort) error {
	switch addr := server.Addr(); {
	case !addr.IsValid():
		return errors.New("DNS server without an address: " + serverForms)
	case addr.IsUnspecified(), addr.IsMulticast(), addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("DNS server %q is not the address of one machine; %s", server, serverForms)
	case server.Port() == 0:
		return fmt.Errorf("DNS server %q: no server has port 0; leave the port out for %d", server, dnsPort)
	}
	return nil
}

func unmapPort(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
