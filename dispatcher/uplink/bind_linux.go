package uplink

import (
	"errors"

	"golang.org/x/sys/unix"
)

// bindSocket ties a fresh socket to its interface. SO_BINDTODEVICE needs no privilege since Linux 5.7. The
// port is left to connect (IP_BIND_ADDRESS_NO_PORT, also for IPv6 sockets), because a port that bind takes is
// taken for all destinations at once and a busy gateway would run dry; where the kernel does not know that option
// (before Linux 4.2, and some sandboxes' kernels), bind takes the port, and the connection is as good.
func bindSocket(fd uintptr, _, device string, _ int) error {
	if err := unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, device); err != nil {
		return &BindError{Option: "SO_BINDTODEVICE", Device: device, Err: err}
	}
	if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil && !errors.Is(err, unix.ENOPROTOOPT) {
		return &BindError{Option: "IP_BIND_ADDRESS_NO_PORT", Device: device, Err: err}
	}
	return nil
}
