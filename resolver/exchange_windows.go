package resolver

import (
	"errors"

	"golang.org/x/sys/windows"
)

// tooLong reports whether a read failed only because the datagram was longer than the buffer.
func tooLong(err error) bool { return errors.Is(err, windows.WSAEMSGSIZE) }
