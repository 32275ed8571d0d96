//go:build unix

package relay

import (
	"errors"
	"os"
	"runtime"
	"syscall"
)

// errReset stands for a reset whose error the kernel gave to somebody else.
var errReset = os.NewSyscallError("read", syscall.ECONNRESET)

// longRun is how many bytes a flow moves without a wait before it sees to it
// that the scheduler can interrupt it (see readNow on Linux).
const longRun = 4 << 20

// copying is the state of a flow whose source is a socket, while a goroutine
// carries it. Its functions are made once, for it is lent from a pool.
type copying struct {
	*flow

	buf *buffer // held from a read that brought something to one that does not
	n   int     // bytes that the last read brought; 0: the source ended
	err error   // of the last call
	end ending  // how the source ended
	out int     // how many of the n bytes have been written

	run  int  // bytes read since the last wait
	bulk bool // worth a pipe
	splicing

	attempt, writer, drainer func(fd uintptr) bool
}

// ending is what a socket tells of the end of its data.
type ending struct {
	gone bool // the kernel knows no peer any more
	fin  bool // and it still keeps the error that came after a FIN
}

// filling is what came of an attempt to fill a pipe.
type filling int

const (
	impossible filling = iota // read instead
	nothing                   // there is nothing to read
	filled                    // there is something in the pipe, or an error
)

// newCopying makes one for the pool.
func newCopying() any {
	c := new(copying)
	c.attempt, c.writer, c.drainer = c.attemptOnce, c.writeOnce, c.drainOnce
	return c
}

// copySocket copies from a socket that the runtime's poller watches.
func (f *flow) copySocket() (failure *Error, parked bool) {
	pool := &f.relay.engine.copyings
	c := pool.Get().(*copying)
	c.flow = f
	defer func() {
		c.release()
		*c = copying{attempt: c.attempt, writer: c.writer, drainer: c.drainer}
		pool.Put(c)
	}()
	return c.copy()
}

// copy moves bytes until the source has ended, or the flow has been parked.
//
// The poller is edge-triggered: it is waited for only when a read has found
// nothing, and in the same RawConn.Read, which forgets earlier edges when it
// begins. So attempt reads without blocking, and takes what it needs for that.
func (c *copying) copy() (failure *Error, parked bool) {
	for {
		parked, err := c.wait(c.src.raw, c.attempt, awaitData)
		if parked {
			return nil, true
		}
		if err != nil {
			return c.readError(err), false
		}
		var failure *Error
		switch {
		case c.piped > 0:
			failure = c.drain()
		case c.err != nil:
			return c.readError(c.err), false
		case c.n == 0:
			return c.confirmFIN(c.end), false
		case c.dst.raw == nil:
			failure = c.write(c.buf[:c.n])
		default:
			failure = c.writeSocket()
		}
		if failure != nil {
			return failure, false
		}
	}
}

// wait waits until ready reports true, unless the flow is parked.
func (f *flow) wait(raw syscall.RawConn, ready func(fd uintptr) bool, events uint32) (parked bool, err error) {
	for {
		if err = raw.Read(ready); err == nil {
			return false, nil
		}
		switch f.relay.engine.lot.park(f, err, events) {
		case isParked:
			return true, nil
		case failed:
			return false, err
		case retry:
		}
	}
}

// attemptOnce reads once, and reports false if there is nothing to read: the flow
// is going to wait then, and holds nothing.
func (c *copying) attemptOnce(fd uintptr) bool {
	e := c.relay.engine
	if c.run >= e.bulkFrom {
		c.bulk = c.dst.raw != nil
	}
	if c.bulk {
		switch c.fill(int(fd)) {
		case filled:
			return true
		case nothing:
			c.rest()
			return false
		case impossible:
		}
	}
	if c.buf == nil {
		c.buf = e.buffers.Get().(*buffer)
	}
	n, err := readNow(int(fd), c.buf[:], c.run >= longRun)
	if errors.Is(err, syscall.EAGAIN) {
		c.rest()
		return false
	}
	c.n, c.err = n, os.NewSyscallError("read", err)
	c.run += n
	if n == 0 && err == nil {
		c.end = examineEnd(int(fd))
	}
	return true
}

// rest gives back what is held, before a wait.
func (c *copying) rest() {
	c.release()
	if c.run < c.relay.engine.bulkFloor {
		c.bulk = false
	}
	c.run = 0
}

func (c *copying) release() {
	c.releaseBuffer()
	c.releasePipe()
}

func (c *copying) releaseBuffer() {
	if c.buf != nil {
		c.relay.engine.buffers.Put(c.buf)
		c.buf = nil
	}
}

// writeSocket hands over what has been read.
func (c *copying) writeSocket() *Error {
	c.out = 0
	err := c.dst.raw.Write(c.writer)
	if err == nil {
		err = c.err
	}
	if err != nil {
		return c.writeError(err)
	}
	return nil
}

// writeOnce writes what the receiving socket has room for, and reports false if
// something is left.
func (c *copying) writeOnce(fd uintptr) bool {
	for c.out < c.n {
		n, err := writeNow(int(fd), c.buf[c.out:c.n])
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		if err != nil {
			c.err = os.NewSyscallError("write", err)
			return true
		}
		c.out += n
		c.moved.Add(int64(n))
	}
	return true
}

// examineEnd looks closer at an end of data.
//
// The kernel tells of a reset once, to whoever asks first. If that is a write by
// the other direction, a read finds the socket closed and returns 0, just as
// after a FIN. But after a FIN there is still a peer, unless a reset followed;
// and then the read returned 0 before it told of the reset.
func examineEnd(fd int) (e ending) {
	e.gone = !hasPeer(fd)
	if e.gone {
		pending, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ERROR)
		e.fin = err == nil && pending != 0
	}
	return e
}

// confirmPlain decides whether an end of data that a wrapper reported was a FIN.
func (f *flow) confirmPlain() *Error {
	var e ending
	if raw := f.src.socket(); raw != nil {
		err := raw.Control(func(fd uintptr) { e = examineEnd(int(fd)) })
		if err != nil {
			return f.readError(err)
		}
	}
	return f.confirmFIN(e)
}

// confirmFIN decides whether an end of data was a FIN.
func (f *flow) confirmFIN(e ending) *Error {
	if !e.gone || e.fin {
		return nil
	}
	// Either the other direction has just closed the socket's second half, or
	// it got the error of the reset. Whichever it is, it is ending now.
	other := f.relay.other(f)
	failure, known := f.relay.awaitEnd(other, afterwards)
	switch {
	case known && failure == nil:
		return nil
	case known && failure.Op == "write" && !other.uncertain && finBeforeReset(failure):
		return nil
	}
	return f.readError(errReset)
}

// finBeforeReset tells from the error that came of a reset whether a FIN had
// come first. Linux makes it EPIPE then, and ECONNRESET otherwise.
func finBeforeReset(err error) bool {
	return runtime.GOOS == "linux" && errors.Is(err, syscall.EPIPE)
}

// watch waits, after the FIN of the source, until the source is reset too or is
// closed on our side, and returns why the relay cannot go on; or until the flow
// has been parked.
func (f *flow) watch() (parked bool, broken error) {
	raw := f.src.socket()
	if raw == nil {
		return false, nil
	}
	parked, err := f.wait(raw, func(fd uintptr) bool { return !hasPeer(int(fd)) }, awaitReset)
	if !parked && err == nil {
		err = errReset
	}
	return parked, err
}

// hasPeer reports whether a socket is connected, if only in one direction.
func hasPeer(fd int) bool {
	_, err := syscall.Getpeername(fd)
	return err == nil
}
