//go:build !unix && !windows

package uplink

import "syscall"

// failures and connectFailures are empty where the error numbers are not known: every failure then counts as the uplink's.
var failures, connectFailures map[syscall.Errno]Failure
