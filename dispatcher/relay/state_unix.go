//go:build unix

package relay

import (
	"errors"

	"golang.org/x/sys/unix"
)

// look peeks at the socket, without waiting.
func look(fd uintptr) State {
	var one [1]byte
	for {
		n, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return Open
		case err != nil || !hasPeer(int(fd)): // what had come before a reset can still be read
			return Broken
		case n == 0:
			return Ended
		}
		return Unread
	}
}
