//go:build !unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// notifySignals delivers the signals that end the program: Ctrl-C, and on Windows also the closing of the console,
// logoff and shutdown, which Go reports as SIGTERM. There is none that asks for a snapshot.
func notifySignals(end, _ chan<- os.Signal) {
	signal.Notify(end, os.Interrupt, syscall.SIGTERM)
}
