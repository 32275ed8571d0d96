package relay

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// watcher is an epoll instance, which the runtime's poller waits for.
type watcher struct {
	fd   int
	file *os.File
	raw  syscall.RawConn
}

// newWatcher returns nil if the system gives none.
func newWatcher() *watcher {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil // mostly for want of descriptors; the goroutines stay
	}
	if err := unix.SetNonblock(fd, true); err != nil { // or os.NewFile leaves it to blocking calls
		_ = unix.Close(fd)
		return nil
	}
	w := &watcher{fd: fd, file: os.NewFile(uintptr(fd), "epoll")}
	if w.raw, err = w.file.SyscallConn(); err != nil {
		w.close()
		return nil
	}
	return w
}

// control changes how the source of f is watched.
func (w *watcher) control(f *flow, op int, event *unix.EpollEvent) error {
	var err error
	closed := f.src.raw.Control(func(fd uintptr) { err = unix.EpollCtl(w.fd, op, int(fd), event) })
	if closed != nil {
		return closed
	}
	return err
}

// wait returns how many events have come, 0 when the watcher is closed.
func (w *watcher) wait(events []unix.EpollEvent) (n int) {
	err := w.raw.Read(func(fd uintptr) bool {
		var err error
		for {
			if n, err = unix.EpollWait(int(fd), events, 0); !errors.Is(err, syscall.EINTR) {
				return n > 0
			}
		}
	})
	if err != nil {
		return 0
	}
	return n
}

// close ends the wait, too. An error would mean only that it is closed.
func (w *watcher) close() { _ = w.file.Close() }
