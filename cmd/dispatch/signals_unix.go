//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// notifySignals delivers the signals that end the program, and those that ask for a snapshot. A hang-up ends it
// too, unless whoever started it had it ignored (nohup).
//
// SIGPIPE, which a write to standard output or standard error raises whose reader has gone, is taken and left at that:
// the write fails, and the gateway serves on. It is not ignored, for that would be inherited by the programs that this
// one starts. Nobody has to empty the channel: what does not fit is dropped (os/signal.Notify).
func notifySignals(end, snapshot chan<- os.Signal) {
	signal.Notify(end, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(end, syscall.SIGHUP)
	}
	signal.Notify(snapshot, syscall.SIGUSR1)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}
