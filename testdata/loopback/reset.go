package loopback

import (
	"errors"
	"net"
	"syscall"
)

// Windows has numbers of its own, which package syscall's do not equal there. (No other system has errors of these
// numbers.)
const (
	errAbortedWindows = syscall.Errno(10053)
	errResetWindows   = syscall.Errno(10054)
)

// Reset closes a connection with a reset.
func Reset(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) }

// IsReset tells whether a connection ended by its peer's reset.
func IsReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, errResetWindows)
}

// IsBroken tells whether a connection failed because of its peer's reset, also for whom the kernel tells of that in
// another way: who sends to a connection that is known to be reset, and on Linux any whose peer had sent a FIN before.
func IsBroken(err error) bool {
	return IsReset(err) || errors.Is(err, syscall.EPIPE) || errors.Is(err, errAbortedWindows)
}
