package relay

import (
	"errors"
	"io"
	"sync/atomic"
)

// flow is one direction of a relay.
type flow struct {
	relay    *Relay
	src, dst *end
	from, to Side
	moved    *atomic.Int64 // bytes that dst has taken
	// uncertain: the error of a write may not be the first one that dst had.
	uncertain bool
	watching  bool // the source has ended well: what is left is to watch it
	parking

	// Guarded by the relay's lock.
	ending  bool // the source has ended, or the flow has failed
	ended   bool // and the receiving side has been told
	failure *Error
	onEnd   chan struct{} // closed at the end, if somebody waits for it
}

func (f *flow) init(r *Relay, from, to Side, moved *atomic.Int64) {
	f.relay = r
	f.from, f.to = from, to
	f.src, f.dst = &r.ends[from], &r.ends[to]
	f.moved = moved
}

// copy moves bytes until the source has ended, and then returns nil; or until the
// flow has been parked.
func (f *flow) copy() (failure *Error, parked bool) {
	if f.src.raw != nil {
		return f.copySocket()
	}
	return f.copyPlain(), false
}

// copyPlain copies from a connection that can only be waited for by reading. It
// waits with a small buffer, and takes a large one while the small one was full.
func (f *flow) copyPlain() *Error {
	empty := 0
	for large := false; ; {
		n, err := f.copyRead(large)
		var failure *Error
		switch {
		case errors.As(err, &failure):
			return failure
		case errors.Is(err, io.EOF):
			return f.confirmPlain()
		case err != nil:
			return f.readError(err)
		case n > 0:
			empty = 0
		default: // allowed, if not for ever
			if empty++; empty == 100 {
				return f.readError(io.ErrNoProgress)
			}
		}
		large = n >= waitSize
	}
}

// copyRead reads once and writes what came. An error in writing is an *Error.
func (f *flow) copyRead(large bool) (int, error) {
	var data []byte
	if large {
		b := f.relay.engine.buffers.Get().(*buffer)
		defer f.relay.engine.buffers.Put(b)
		data = b[:]
	} else {
		b := f.relay.engine.waits.Get().(*waitBuffer)
		defer f.relay.engine.waits.Put(b)
		data = b[:]
	}
	n, err := f.src.stream.Read(data)
	if n > 0 {
		if failure := f.write(data[:n]); failure != nil {
			return n, failure
		}
	}
	return n, err
}

// write hands all of data over.
func (f *flow) write(data []byte) *Error {
	n, err := f.dst.stream.Write(data)
	f.moved.Add(int64(n))
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return f.writeError(err)
	}
	return nil
}

func (f *flow) readError(err error) *Error { return &Error{f.from, "read", err} }

func (f *flow) writeError(err error) *Error { return &Error{f.to, "write", err} }
