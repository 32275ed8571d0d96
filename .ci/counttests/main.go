// Command counttests reads the output of "go test -json" on its standard input, shows it in short, and writes the
// totals to the file that its only argument names, as one line: "N passed, N failed, N skipped".
//
// A test with subtests is counted through them, so that each case counts once. A package that fails without a
// failing test (it does not compile, it panics, it leaks) counts as one failure.
//
// It exits 1 if anything failed or nothing ran.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go test -json ./... | counttests TOTALS_FILE")
		os.Exit(2)
	}
	t, err := read(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintf(os.Stderr, "counttests: %v\n", err)
		os.Exit(1)
	}
	if err := os.WriteFile(os.Args[1], []byte(t.String()+"\n"), 0o600); err != nil {
		fmt.Fprintf(os.Stderr, "counttests: %v\n", err)
		os.Exit(1)
	}
	if t.failed > 0 || t.passed == 0 {
		os.Exit(1)
	}
}
