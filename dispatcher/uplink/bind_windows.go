package uplink

import (
	"math/bits"
	"strings"

	"golang.org/x/sys/windows"
)

// IP_UNICAST_IF and IPV6_UNICAST_IF of ws2ipdef.h; equal by chance.
const unicastIf = 31

// bindSocket ties a fresh socket to its interface. The IPv4 option takes the index in network byte order, the
// IPv6 one in host order.
func bindSocket(fd uintptr, network, device string, index int) error {
	level, value, name := windows.IPPROTO_IP, int(bits.ReverseBytes32(uint32(index))), "IP_UNICAST_IF"
	if strings.HasSuffix(network, "6") {
		level, value, name = windows.IPPROTO_IPV6, index, "IPV6_UNICAST_IF"
	}
	if err := windows.SetsockoptInt(windows.Handle(fd), level, unicastIf, value); err != nil {
		return &BindError{Option: name, Device: device, Err: err}
	}
	return nil
}
