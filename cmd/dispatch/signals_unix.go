//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// notifySignals delivers the signals that end the program, and those that ask for a snapshot. A hang-up ends it
// too, unless whoever started it had it ignored (nohup).
func notifySignals(end, snapshot chan<- os.Signal) {
	signal.Notify(end, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(end, syscall.SIGHUP)
	}
	signal.Notify(snapshot, syscall.SIGUSR1)
}
