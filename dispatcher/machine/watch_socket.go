//go:build linux || darwin || freebsd

package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketEvents is a socket to which the kernel writes one datagram an event. Where its buffer overflows the kernel
// drops events and may say ENOBUFS: neither matters, because there is an event to be read by then.
type socketEvents struct {
	file     *os.File // on the runtime's poller
	raw      syscall.RawConn
	relevant func(datagram []byte) bool // looks at its first 64 bytes
	buffer   [64]byte
}

// drainAtMost bounds the datagrams that one wait reads, for when they come faster than that; the rest are the next
// wait's event.
const drainAtMost = 1024

// newSocketEvents takes over the non-blocking socket fd. For name see os.NewFile.
func newSocketEvents(fd int, name string, relevant func([]byte) bool) (*socketEvents, error) {
	e := &socketEvents{file: os.NewFile(uintptr(fd), name), relevant: relevant}
	var err error
	if e.raw, err = e.file.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("use the %s: %w", name, err), e.close())
	}
	return e, nil
}

func (e *socketEvents) close() error { return e.file.Close() }

func (e *socketEvents) wait(ctx context.Context, atMost time.Duration) (bool, error) {
	var event bool
	var failure error
	drain := func(fd uintptr) bool {
		event, failure = e.drain(int(fd))
		return event || failure != nil
	}
	// Read does not even look when there is no time left.
	if err := e.raw.Control(func(fd uintptr) { drain(fd) }); err != nil || event || failure != nil || atMost <= 0 {
		return event, errors.Join(err, failure)
	}
	if err := e.file.SetReadDeadline(time.Now().Add(atMost)); err != nil {
		return false, fmt.Errorf("set the time to wait for network events: %w", err)
	}
	// A deadline in the past, and not close, wakes the wait, so that the socket has one owner. What is returned does
	// not matter: an error would mean that the socket is closed, and wait says so as well.
	stop := context.AfterFunc(ctx, func() { _ = e.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err := e.raw.Read(drain)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return event, errors.Join(err, failure)
}

// drain reads what there is without waiting.
func (e *socketEvents) drain(fd int) (event bool, err error) {
	for range drainAtMost {
		switch n, err := unix.Read(fd, e.buffer[:]); {
		case err == nil:
			event = event || e.relevant(e.buffer[:n])
		case errors.Is(err, unix.EAGAIN):
			return event, nil
		case errors.Is(err, unix.ENOBUFS):
			event = true
		case !errors.Is(err, unix.EINTR):
			return event, fmt.Errorf("read network events: %w", err)
		}
	}
	return true, nil
}
