package relay

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// None of these calls blocks, so they are made without telling the scheduler.
// Telling it would wake the runtime's monitor thread at the first call after
// each wait, which costs more than most of the calls. While the monitor sleeps
// nobody is preempted, so a flow that never has to wait must tell.

// readNow reads what is there. The error is EAGAIN if there is nothing.
func readNow(fd int, data []byte, tell bool) (int, error) {
	p, size := unsafe.Pointer(unsafe.SliceData(data)), uintptr(len(data))
	for {
		var n uintptr
		var errno syscall.Errno
		if tell {
			n, _, errno = unix.Syscall(unix.SYS_READ, uintptr(fd), uintptr(p), size)
		} else {
			n, _, errno = unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(p), size)
		}
		if errno != syscall.EINTR {
			return returned(n, errno)
		}
	}
}

// writeNow writes what there is room for. The error is EAGAIN if there is none.
func writeNow(fd int, data []byte) (int, error) {
	p, size := unsafe.Pointer(unsafe.SliceData(data)), uintptr(len(data))
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(p), size)
		if errno != syscall.EINTR {
			return returned(n, errno)
		}
	}
}

// spliceNow moves at most size bytes into or out of a pipe. The error is EAGAIN
// if there are none, or no room for them.
func spliceNow(from, to, size int, tell bool) (int, error) {
	const flags = unix.SPLICE_F_MOVE | unix.SPLICE_F_NONBLOCK
	for {
		var n uintptr
		var errno syscall.Errno
		if tell {
			n, _, errno = unix.Syscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(size), flags)
		} else {
			n, _, errno = unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(size), flags)
		}
		if errno != syscall.EINTR {
			return returned(n, errno)
		}
	}
}

func returned(n uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
