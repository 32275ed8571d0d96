//go:build unix

package httpproxy

import (
	"errors"
	"syscall"
	"time"
)

func isReset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }

// cpuTime is what this process has used so far.
func cpuTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
