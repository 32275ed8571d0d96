package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// off disables a kind of listener.
const off = "off"

// loopback is this machine, for itself only.
var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// parseListen reads the addresses of one kind of listener. An empty host becomes host; "off" alone means none.
func parseListen(flag string, texts []string, host netip.Addr) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	seen := make(map[netip.AddrPort]bool)
	for _, text := range texts {
		if text == off {
			if len(texts) > 1 {
				return nil, fmt.Errorf("%s: 'off' does not go with other addresses; give either", flag)
			}
			return nil, nil
		}
		a, err := ParseAddrPort(text, host)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		if seen[a] && a.Port() != 0 {
			return nil, fmt.Errorf("%s: %s is given twice; give it once", flag, text)
		}
		seen[a] = true
		out = append(out, a)
	}
	return out, nil
}

// ParseAddrPort reads an address that a listener has: PORT, :PORT, or ADDRESS:PORT. A missing address becomes host, or
// 127.0.0.1 where host is the zero Addr.
func ParseAddrPort(text string, host netip.Addr) (netip.AddrPort, error) {
	if !host.IsValid() {
		host = loopback
	}
	colon := strings.LastIndexByte(text, ':')
	hostText, portText := "", text
	if colon >= 0 {
		hostText, portText = text[:colon], text[colon+1:]
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q has no valid port; write :PORT or ADDRESS:PORT with a port of 0 to 65535, or 'off'", text)
	}
	switch {
	case hostText == "":
		return netip.AddrPortFrom(host, uint16(port)), nil
	case hostText == "localhost":
		return netip.AddrPortFrom(loopback, uint16(port)), nil
	case hostText == "*":
		return netip.AddrPort{}, fmt.Errorf("'*' opens the proxy to everyone who reaches this machine; if that is meant, write 0.0.0.0:%s or [::]:%s", portText, portText)
	}
	if strings.HasPrefix(hostText, "[") && strings.HasSuffix(hostText, "]") {
		hostText = hostText[1 : len(hostText)-1]
	} else if strings.Contains(hostText, ":") {
		return netip.AddrPort{}, fmt.Errorf("%q: put an IPv6 address in brackets, as in [::1]:1080", text)
	}
	addr, err := netip.ParseAddr(hostText)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is not an IP address; write :PORT for this machine only, or ADDRESS:PORT with one of its addresses", hostText)
	}
	return netip.AddrPortFrom(addr, uint16(port)), nil
}

// ReachedAt is where a listener is reached from this machine: one on all addresses by loopback.
func ReachedAt(listener netip.AddrPort) netip.AddrPort {
	if listener.Addr().IsUnspecified() {
		return netip.AddrPortFrom(loopback, listener.Port())
	}
	return listener
}
