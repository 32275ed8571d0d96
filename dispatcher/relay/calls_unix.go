//go:build unix && !linux

package relay

import (
	"errors"
	"syscall"
)

// readNow reads what is there. The error is EAGAIN if there is nothing.
func readNow(fd int, data []byte, _ bool) (int, error) {
	for {
		n, err := syscall.Read(fd, data)
		if !errors.Is(err, syscall.EINTR) {
			return max(n, 0), err
		}
	}
}

// writeNow writes what there is room for. The error is EAGAIN if there is none.
func writeNow(fd int, data []byte) (int, error) {
	for {
		n, err := syscall.Write(fd, data)
		if !errors.Is(err, syscall.EINTR) {
			return max(n, 0), err
		}
	}
}
