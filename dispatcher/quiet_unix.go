//go:build unix

package dispatcher

import (
	"errors"

	"golang.org/x/sys/unix"
)

// isQuiet peeks at the socket, without waiting.
func isQuiet(fd uintptr) bool {
	var one [1]byte
	for {
		_, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if !errors.Is(err, unix.EINTR) {
			return errors.Is(err, unix.EAGAIN)
		}
	}
}
