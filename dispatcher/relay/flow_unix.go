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

// reading is the state of a flow that reads from a socket.
type reading struct {
	buf  *buffer // held from a read that brought something to one that does not
	n    int     // bytes that the last read brought; 0: the source ended
	err  error   // of the last call
	gone bool    // when the source ended, the kernel knew no peer any more
	fin  bool    // and the kernel still kept the error that came after a FIN

	out    int // how many of the n bytes have been written
	writer func(fd uintptr) bool

	run  int  // bytes read since the last wait
	bulk bool // worth a pipe
	splicing
}

// filling is what came of an attempt to fill a pipe.
type filling int

const (
	impossible filling = iota // read instead
	nothing                   // there is nothing to read
	filled                    // there is something in the pipe, or an error
)

// copySocket copies from a socket that the runtime's poller watches.
//
// The poller is edge-triggered: it is waited for only when a read has found
// nothing, and in the same RawConn.Read, which forgets earlier edges when it
// begins. So attempt reads without blocking, and takes what it needs for that.
func (f *flow) copySocket() *Error {
	defer f.release()
	attempt := f.attempt
	f.writer = f.writeOnce
	for {
		if err := f.src.raw.Read(attempt); err != nil {
			return f.readError(err)
		}
		var failure *Error
		switch {
		case f.piped > 0:
			failure = f.drain()
		case f.err != nil:
			return f.readError(f.err)
		case f.n == 0:
			return f.confirmFIN()
		case f.dst.raw == nil:
			failure = f.write(f.buf[:f.n])
		default:
			failure = f.writeSocket()
		}
		if failure != nil {
			return failure
		}
	}
}

// attempt reads once, and reports false if there is nothing to read: the flow
// is going to wait then, and holds nothing.
func (f *flow) attempt(fd uintptr) bool {
	if f.run >= f.engine.bulkFrom {
		f.bulk = f.dst.raw != nil
	}
	if f.bulk {
		switch f.fill(int(fd)) {
		case filled:
			return true
		case nothing:
			f.rest()
			return false
		case impossible:
		}
	}
	if f.buf == nil {
		f.buf = f.engine.buffers.Get().(*buffer)
	}
	n, err := readNow(int(fd), f.buf[:], f.run >= longRun)
	if errors.Is(err, syscall.EAGAIN) {
		f.rest()
		return false
	}
	f.n, f.err = n, os.NewSyscallError("read", err)
	f.run += n
	if n == 0 && err == nil {
		f.examineEnd(int(fd))
	}
	return true
}

// rest gives back what is held, before a wait.
func (f *flow) rest() {
	f.release()
	if f.run < f.engine.bulkFloor {
		f.bulk = false
	}
	f.run = 0
}

func (f *flow) release() {
	f.releaseBuffer()
	f.releasePipe()
}

func (f *flow) releaseBuffer() {
	if f.buf != nil {
		f.engine.buffers.Put(f.buf)
		f.buf = nil
	}
}

// writeSocket hands over what has been read.
func (f *flow) writeSocket() *Error {
	f.out = 0
	err := f.dst.raw.Write(f.writer)
	if err == nil {
		err = f.err
	}
	if err != nil {
		return f.writeError(err)
	}
	return nil
}

// writeOnce writes what the receiving socket has room for, and reports false if
// something is left.
func (f *flow) writeOnce(fd uintptr) bool {
	for f.out < f.n {
		n, err := writeNow(int(fd), f.buf[f.out:f.n])
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		if err != nil {
			f.err = os.NewSyscallError("write", err)
			return true
		}
		f.out += n
		f.moved.Add(int64(n))
	}
	return true
}

// examineEnd looks closer at an end of data.
//
// The kernel tells of a reset once, to whoever asks first. If that is a write by
// the other direction, a read finds the socket closed and returns 0, just as
// after a FIN. But after a FIN there is still a peer, unless a reset followed;
// and then the read returned 0 before it told of the reset.
func (f *flow) examineEnd(fd int) {
	f.gone = !hasPeer(fd)
	if f.gone {
		pending, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ERROR)
		f.fin = err == nil && pending != 0
	}
}

// confirmPlain decides whether an end of data that a wrapper reported was a FIN.
func (f *flow) confirmPlain() *Error {
	if raw := f.src.rawSocket(); raw != nil {
		err := raw.Control(func(fd uintptr) { f.examineEnd(int(fd)) })
		if err != nil {
			return f.readError(err)
		}
	}
	return f.confirmFIN()
}

// confirmFIN decides whether an end of data was a FIN.
func (f *flow) confirmFIN() *Error {
	if !f.gone || f.fin {
		return nil
	}
	// Either the other direction has just closed the socket's second half, or
	// it got the error of the reset. Whichever it is, it is ending now.
	other := f.session.other(f)
	failure, known := f.session.outcome(other, afterwards)
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
// closed on our side, and returns why the session cannot go on.
func (f *flow) watch() *Error {
	raw := f.src.rawSocket()
	if raw == nil {
		return nil
	}
	if err := raw.Read(func(fd uintptr) bool { return !hasPeer(int(fd)) }); err != nil {
		return f.readError(err)
	}
	return f.readError(errReset)
}

// hasPeer reports whether a socket is connected, if only in one direction.
func hasPeer(fd int) bool {
	_, err := syscall.Getpeername(fd)
	return err == nil
}
