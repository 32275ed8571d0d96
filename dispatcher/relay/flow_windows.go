package relay

import (
	"errors"
	"io"
)

// newCopying is for the systems that need a state while copying.
func newCopying() any { return nil }

// copySocket copies from a socket. RawConn.Read waits by means of a read of
// zero bytes, which pins no buffer and completes when there is something to
// read, however often it is asked.
func (f *flow) copySocket() (failure *Error, parked bool) {
	waited := false
	ready := func(uintptr) bool {
		waited = !waited
		return !waited
	}
	for {
		if err := f.src.raw.Read(ready); err != nil {
			return f.readError(err), false
		}
		if ended, failure := f.copyReady(); ended || failure != nil {
			return failure, false
		}
	}
}

// copyReady reads what is there and writes it.
func (f *flow) copyReady() (ended bool, failure *Error) {
	b := f.relay.engine.buffers.Get().(*buffer)
	defer f.relay.engine.buffers.Put(b)
	n, err := f.src.stream.Read(b[:])
	if n > 0 {
		failure = f.write(b[:n])
	}
	switch {
	case failure != nil:
		return false, failure
	case errors.Is(err, io.EOF):
		return true, nil
	case err != nil:
		return false, f.readError(err)
	}
	return false, nil
}

// watch does not wait: after a FIN a read of zero bytes completes at once.
func (f *flow) watch() (parked bool, broken error) { return false, nil }

// confirmPlain has nothing to doubt: a reset is told to all who ask.
func (f *flow) confirmPlain() *Error { return nil }
