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
	piped   int  // bytes in it
	refused bool // the kernel does not splice this socket
}

// fill moves what there is to read from a socket to an empty pipe.
func (c *copying) fill(fd int) filling {
	if c.refused {
		return impossible
	}
	if c.pipe == nil {
		if c.pipe = c.relay.engine.pipes.get(); c.pipe == nil {
			return impossible
		}
		c.releaseBuffer()
	}
	n, err := spliceNow(fd, c.pipe.w, c.relay.engine.pipes.size, c.run >= longRun)
	switch {
	case n > 0:
		c.piped = n
		c.run += n
		return filled
	case err == nil:
		// The end of the data: a read will look closer at it.
	case errors.Is(err, syscall.EAGAIN):
		return nothing
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOSYS), errors.Is(err, syscall.EPERM):
		c.refused = true
	default:
		c.n, c.err = 0, os.NewSyscallError("splice", err)
		return filled
	}
	c.releasePipe()
	return impossible
}

// drain moves all that is in the pipe to the receiving socket.
func (c *copying) drain() *Error {
	c.err = nil
	err := c.dst.raw.Write(c.drainer)
	if err == nil {
		err = c.err
	}
	if err != nil {
		// Splice forgets an error that comes after some bytes have gone.
		c.uncertain = true
		return c.writeError(err)
	}
	return nil
}

// drainOnce moves what the receiving socket has room for, and reports false if
// something is left.
func (c *copying) drainOnce(fd uintptr) bool {
	for c.piped > 0 {
		n, err := spliceNow(c.pipe.r, int(fd), c.piped, false)
		switch {
		case n > 0:
			c.piped -= n
			c.moved.Add(int64(n))
		case err == nil:
			c.err = io.ErrNoProgress
			return true
		case errors.Is(err, syscall.EAGAIN):
			return false
		default:
			c.err = os.NewSyscallError("splice", err)
			return true
		}
	}
	return true
}

// releasePipe gives the pipe back, and says if bytes are stuck in it.
func (c *copying) releasePipe() {
	if c.pipe != nil {
		c.relay.engine.pipes.put(c.pipe, c.piped == 0)
		c.pipe, c.piped = nil, 0
	}
}
