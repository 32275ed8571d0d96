package uplink

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// A netlink socket takes SO_BINDTODEVICE as any socket does, and knows no option of IP: to IP_BIND_ADDRESS_NO_PORT it
// answers as a kernel does that is too old for it.
func TestBindSocketWithoutBindAddressNoPort(t *testing.T) {
	t.Parallel()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); !errors.Is(err, unix.ENOPROTOOPT) {
		t.Fatalf("the option's error is %v; this test needs ENOPROTOOPT", err)
	}
	if err := bindSocket(uintptr(fd), "tcp4", "lo", 1); err != nil {
		t.Errorf("a kernel without IP_BIND_ADDRESS_NO_PORT: %v", err)
	}
	if device, err := unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE); err != nil || device != "lo" {
		t.Errorf("the socket is tied to %q, %v", device, err)
	}
	bind, ok := errors.AsType[*BindError](bindSocket(uintptr(fd), "tcp4", "gone0", 99))
	if !ok || bind.Option != "SO_BINDTODEVICE" {
		t.Errorf("without the device: %v", bind)
	}
}
