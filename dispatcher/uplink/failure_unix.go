//go:build unix

package uplink

import "syscall"

// failures classes the error numbers of connect(2), bind(2), socket(2) and setsockopt(2). EADDRNOTAVAIL is
// both "no such source address" and "no free port"; the first is by far the commoner with ports chosen at connect.
var failures = map[syscall.Errno]Failure{
	syscall.ECONNREFUSED:  Refused,
	syscall.ECONNRESET:    Reset,
	syscall.ECONNABORTED:  Reset,
	syscall.ENETUNREACH:   NetworkUnreachable,
	syscall.EHOSTUNREACH:  HostUnreachable,
	syscall.EHOSTDOWN:     HostUnreachable,
	syscall.ETIMEDOUT:     TimedOut,
	syscall.ENETDOWN:      LineUnusable,
	syscall.EADDRNOTAVAIL: LineUnusable,
	syscall.ENODEV:        LineUnusable,
	syscall.ENXIO:         LineUnusable,
	syscall.EPERM:         Forbidden,
	syscall.EACCES:        Forbidden,
	syscall.EMFILE:        Exhausted,
	syscall.ENFILE:        Exhausted,
	syscall.ENOBUFS:       Exhausted,
	syscall.ENOMEM:        Exhausted,
}
