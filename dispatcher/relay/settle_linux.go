package relay

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// settle waits until the peer has acknowledged all that was sent to it, FIN and
// all, or acknowledges nothing more for as long as patience. It reports false if
// there is no telling.
func (e *end) settle(patience time.Duration) bool {
	raw := e.socket()
	if raw == nil {
		return false
	}
	least, since := -1, time.Now()
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		left, err := unacknowledged(raw)
		if err != nil || left == 0 {
			return true // also when it was closed here or is broken: nothing will change
		}
		if now := time.Now(); left < least || least < 0 {
			least, since = left, now
		} else if now.Sub(since) >= patience {
			return true
		}
		time.Sleep(pause)
	}
}

// unacknowledged returns how much the kernel still keeps for the peer.
func unacknowledged(raw syscall.RawConn) (left int, err error) {
	ctrl := raw.Control(func(fd uintptr) {
		if _, err = unix.Getpeername(int(fd)); err == nil {
			left, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		}
	})
	if ctrl != nil {
		return 0, ctrl
	}
	return left, err
}
