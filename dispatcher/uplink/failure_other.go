//go:build !unix && !windows

package uplink

import "syscall"

// failures is empty where the error numbers are not known: every failure then counts as the uplink's.
var failures map[syscall.Errno]Failure
