//go:build unix

package uplink

import "syscall"

// failures classes the error numbers of connect(2), bind(2), socket(2) and setsockopt(2). EADDRNOTAVAIL of bind is "no
// such source address"; the BSDs, which choose the port there, give it for "no free port" as well, by far the rarer.
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
	syscall.EADDRINUSE:    NoPort, // only ports are bound that the kernel chooses: none is left
	syscall.ENOBUFS:       Exhausted,
	syscall.ENOMEM:        Exhausted,
}

// connectFailures has what is different with connect(2). There the source address has been bound, and EADDRNOTAVAIL says
// that no port of it is free for the destination (Linux ip(7), ip_local_port_range): no other look at the interfaces and
// no check of the line would change that.
var connectFailures = map[syscall.Errno]Failure{syscall.EADDRNOTAVAIL: NoPort}
