package main

import (
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
				return nil, usagef("%s: 'off' does not go with other addresses; give either", flag)
			}
			return nil, nil
		}
		a, err := parseAddrPort(flag, text, host)
		if err != nil {
			return nil, err
		}
		if seen[a] && a.Port() != 0 {
			return nil, usagef("%s: %s is given twice; give it once", flag, text)
		}
		seen[a] = true
		out = append(out, a)
	}
	return out, nil
}

func parseAddrPort(flag, text string, host netip.Addr) (netip.AddrPort, error) {
	colon := strings.LastIndexByte(text, ':')
	hostText, portText := "", text
	if colon >= 0 {
		hostText, portText = text[:colon], text[colon+1:]
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return netip.AddrPort{}, usagef("%s: %q has no valid port; write :PORT or ADDRESS:PORT with a port of 0 to 65535, or 'off'", flag, text)
	}
	switch {
	case hostText == "":
		return netip.AddrPortFrom(host, uint16(port)), nil
	case hostText == "localhost":
		return netip.AddrPortFrom(loopback, uint16(port)), nil
	case hostText == "*":
		return netip.AddrPort{}, usagef("%s: '*' opens the proxy to everyone who reaches this machine; if that is meant, write 0.0.0.0:%s or [::]:%s", flag, portText, portText)
	}
	if strings.HasPrefix(hostText, "[") && strings.HasSuffix(hostText, "]") {
		hostText = hostText[1 : len(hostText)-1]
	} else if strings.Contains(hostText, ":") {
		return netip.AddrPort{}, usagef("%s: %q: put an IPv6 address in brackets, as in [::1]:1080", flag, text)
	}
	addr, err := netip.ParseAddr(hostText)
	if err != nil {
		return netip.AddrPort{}, usagef("%s: %q is not an IP address; write :PORT for this machine only, or ADDRESS:PORT with one of its addresses", flag, hostText)
	}
	return netip.AddrPortFrom(addr, uint16(port)), nil
}
