package relay

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// splicing is the state of a flow that moves its bytes from socket to socket
// through a pipe, within the kernel.
type splicing struct {
	pipe    *pipe
	piped   int // bytes in it
	drainer func(fd uintptr) bool
	refused bool // the kernel does not splice this socket
	// uncertain: the error of a write may not be the first one that the socket
	// had. Splice forgets an error that comes after some bytes have gone.
	uncertain bool
}

// fill moves what there is to read from a socket to an empty pipe.
func (f *flow) fill(fd int) filling {
	if f.refused {
		return impossible
	}
	if f.pipe == nil {
		if f.pipe = f.engine.pipes.get(); f.pipe == nil {
			return impossible
		}
		f.releaseBuffer()
	}
	n, err := spliceNow(fd, f.pipe.w, f.engine.pipes.size, f.run >= longRun)
	switch {
	case n > 0:
		f.piped = n
		f.run += n
		return filled
	case err == nil:
		// The end of the data: a read will look closer at it.
	case errors.Is(err, syscall.EAGAIN):
		return nothing
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOSYS), errors.Is(err, syscall.EPERM):
		f.refused = true
	default:
		f.n, f.err = 0, os.NewSyscallError("splice", err)
		return filled
	}
	f.releasePipe()
	return impossible
}

// drain moves all that is in the pipe to the receiving socket.
func (f *flow) drain() *Error {
	if f.drainer == nil {
		f.drainer = f.drainOnce
	}
	f.err = nil
	err := f.dst.raw.Write(f.drainer)
	if err == nil {
		err = f.err
	}
	if err != nil {
		f.uncertain = true
		return f.writeError(err)
	}
	return nil
}

// drainOnce moves what the receiving socket has room for, and reports false if
// something is left.
func (f *flow) drainOnce(fd uintptr) bool {
	for f.piped > 0 {
		n, err := spliceNow(f.pipe.r, int(fd), f.piped, false)
		switch {
		case n > 0:
			f.piped -= n
			f.moved.Add(int64(n))
		case err == nil:
			f.err = io.ErrNoProgress
			return true
		case errors.Is(err, syscall.EAGAIN):
			return false
		default:
			f.err = os.NewSyscallError("splice", err)
			return true
		}
	}
	return true
}

// releasePipe gives the pipe back, and says if bytes are stuck in it.
func (f *flow) releasePipe() {
	if f.pipe != nil {
		f.engine.pipes.put(f.pipe, f.piped == 0)
		f.pipe, f.piped = nil, 0
	}
}
