//go:build !linux && !windows && !darwin && !freebsd

package machine

import (
	"fmt"
	"net"
	"net/netip"
)

// readInterfaces knows what package net knows: no kinds but loopback, no address flags, no routes.
func readInterfaces() ([]Interface, map[int][]route, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, nil, fmt.Errorf("list links: %w", err)
	}
	var list []Interface
	for n := range links {
		l := &links[n]
		const up = net.FlagUp | net.FlagRunning
		i := Interface{Index: l.Index, Name: l.Name, Up: l.Flags&up == up}
		if l.Flags&net.FlagLoopback != 0 {
			i.Kind = KindLoopback
		}
		addrs, err := l.Addrs()
		if err != nil {
			return nil, nil, fmt.Errorf("list the addresses of %s: %w", l.Name, err)
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				i.Addresses = append(i.Addresses, Address{Prefix: p})
			}
		}
		list = append(list, i)
	}
	return list, nil, nil
}
