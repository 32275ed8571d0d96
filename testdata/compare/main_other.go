//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "compare: it measures with Linux's namespaces and /proc; run it on Linux")
	os.Exit(1)
}
