//go:build !linux

package netlab

import "runtime"

// enter runs m where the process is: network namespaces are Linux's.
func enter(m TestingM) int {
	return runOutside(m, "it is made of Linux network namespaces, and this is "+runtime.GOOS)
}
