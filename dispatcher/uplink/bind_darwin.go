package uplink

import (
	"strings"

	"golang.org/x/sys/unix"
)

// bindSocket ties a fresh socket to its interface; the kernel takes the index in host order.
func bindSocket(fd uintptr, network, device string, index int) error {
	option, level, name := unix.IP_BOUND_IF, unix.IPPROTO_IP, "IP_BOUND_IF"
	if strings.HasSuffix(network, "6") {
		option, level, name = unix.IPV6_BOUND_IF, unix.IPPROTO_IPV6, "IPV6_BOUND_IF"
	}
	if err := unix.SetsockoptInt(int(fd), level, option, index); err != nil {
		return &BindError{Option: name, Device: device, Err: err}
	}
	return nil
}
