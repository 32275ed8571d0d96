package loopback

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Descriptors is how many this process has open. Linux only.
func Descriptors(t testing.TB) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// NoGoroutine waits until no goroutine of this process is in any of the functions.
func NoGoroutine(t testing.TB, functions ...string) {
	t.Helper()
	buf := make([]byte, 1<<20)
	Eventually(t, "goroutines to end", func() bool {
		stacks := string(buf[:runtime.Stack(buf, true)])
		return !slices.ContainsFunc(functions, func(function string) bool { return strings.Contains(stacks, function) })
	})
}
