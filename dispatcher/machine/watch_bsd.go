//go:build darwin || freebsd

package machine

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// quietReread is how often the interfaces are read without any event, for what has none: an IPv6 address that has
// passed duplicate address detection, or was deprecated, stays as it is for the routing socket.
const quietReread = 5 * time.Second

// openEvents opens a routing socket, to which the kernel writes the changes of links, addresses and routes.
func openEvents() (eventSource, error) {
	fd, err := unix.Socket(unix.AF_ROUTE, unix.SOCK_RAW, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("open a routing socket: %w", err)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("make a routing socket non-blocking: %w", err), unix.Close(fd))
	}
	return newSocketEvents(fd, "routing socket", routingChange)
}
