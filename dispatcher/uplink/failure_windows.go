package uplink

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// failures classes the error numbers of Winsock (Windows Sockets Error Codes). ERROR_SEM_TIMEOUT and
// ERROR_CONNECTION_REFUSED and their like are what overlapped connects report instead of the Winsock numbers.
var failures = map[syscall.Errno]Failure{
	windows.WSAECONNREFUSED:           Refused,
	windows.ERROR_CONNECTION_REFUSED:  Refused,
	windows.WSAECONNRESET:             Reset,
	windows.WSAECONNABORTED:           Reset,
	windows.ERROR_CONNECTION_ABORTED:  Reset,
	windows.WSAENETUNREACH:            NetworkUnreachable,
	windows.ERROR_NETWORK_UNREACHABLE: NetworkUnreachable,
	windows.WSAEHOSTUNREACH:           HostUnreachable,
	windows.WSAEHOSTDOWN:              HostUnreachable,
	windows.ERROR_HOST_UNREACHABLE:    HostUnreachable,
	windows.WSAETIMEDOUT:              TimedOut,
	windows.ERROR_SEM_TIMEOUT:         TimedOut,
	windows.WSAENETDOWN:               LineUnusable,
	windows.WSAEADDRNOTAVAIL:          LineUnusable,
	windows.WSAEACCES:                 Forbidden,
	windows.WSAEMFILE:                 Exhausted,
	windows.WSAENOBUFS:                Exhausted,
}

// connectFailures is empty: of ConnectEx, too, WSAEADDRNOTAVAIL speaks of addresses; ports run out when binding.
var connectFailures map[syscall.Errno]Failure
