//go:build unix

package loopback

import (
	"syscall"
	"testing"
	"time"
)

// CPUTime is what this process has used so far; always 0 where that is not measured.
func CPUTime(t testing.TB) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
