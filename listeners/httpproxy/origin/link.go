package origin

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"dispatch/dispatcher"
)

// maxResponseHead bounds a response's head in bytes.
const maxResponseHead = 1 << 20

var errLongHead = fmt.Errorf("the response's head is longer than %d bytes", maxResponseHead)

// link is a connection to an origin server, kept alive between requests. One goroutine reads from it, one writes.
type link struct {
	conn    *dispatcher.Conn
	key     key
	buffers *buffers
	br      *bufio.Reader // nil while idle
	bw      *bufio.Writer

	reused   bool   // it has carried a request before
	received bool   // something of a response
	written  int64  // bytes, since the request began
	writeErr error  // what a write failed with; net/http wraps it so that it cannot be told any more
	head     int64  // bytes that may still be read; negative: the head has been read, and the body has no bound
	client   Client // flushed before a read that may have to wait; nil: nobody

	sent  atomic.Int64 // when the origin's side last took something; Unix nanoseconds
	stage atomic.Int32 // of the response: one of the stages

	// Of the awaited, under their lock.
	asked   time.Time // when the request was begun
	doubted bool      // its line has been, for that
	repeats bool      // the request may be sent again
	last    bool      // but has been, as often as it may

	since time.Time // when it became idle; of the pool, under its lock
}

// The stages of a response. Who takes the link from one to the next, its reader or who gives it up, has decided for both.
const (
	silent   int32 = iota // nothing has come
	heard                 // something has, but not all of the final head
	answered              // the final head has: nobody gives it up any more
	givenUp               // its line is taken for dead: nothing that comes now is read
)

var errLineGivenUp = errors.New("the line was given up before the response")

// giveUp ends the waiting for the response, if it is still waited for; with unheard only if nothing of it has come.
func (l *link) giveUp(unheard bool) {
	if l.stage.CompareAndSwap(silent, givenUp) || !unheard && l.stage.CompareAndSwap(heard, givenUp) {
		l.interrupt()
	}
}

// begin readies the link for a request.
func (l *link) begin() {
	l.stage.Store(silent)
	l.received, l.written, l.writeErr, l.head = false, 0, nil, maxResponseHead
	l.br, _ = l.buffers.readers.Get().(*bufio.Reader)
	l.br.Reset(l)
	l.bw, _ = l.buffers.writers.Get().(*bufio.Writer)
	l.bw.Reset(l)
}

// end gives the buffers back, with whatever they hold.
func (l *link) end() {
	if l.br == nil {
		return
	}
	l.br.Reset(nil)
	l.buffers.readers.Put(l.br)
	l.bw.Reset(nil)
	l.buffers.writers.Put(l.bw)
	l.br, l.bw = nil, nil
}

// Read reads what the origin sends.
func (l *link) Read(p []byte) (int, error) {
	if l.head == 0 {
		return 0, errLongHead
	}
	if l.head > 0 && int64(len(p)) > l.head {
		p = p[:l.head]
	}
	if l.client != nil {
		if err := l.client.FlushError(); err != nil {
			return 0, err
		}
	}
	n, err := l.conn.Read(p)
	if l.head > 0 {
		l.head -= int64(n)
	}
	if n > 0 && !l.received {
		if !l.stage.CompareAndSwap(silent, heard) {
			return 0, errLineGivenUp
		}
		l.received = true
	}
	return n, err
}

// Write sends to the origin.
func (l *link) Write(p []byte) (int, error) {
	n, err := l.conn.Write(p)
	l.written += int64(n)
	if n > 0 {
		l.sent.Store(time.Now().UnixNano())
	}
	if err != nil {
		l.writeErr = err
	}
	return n, err
}

// ReadFrom sends what comes of src, as it comes: bufio.Writer, which net/http copies bodies to, would collect it.
func (l *link) ReadFrom(src io.Reader) (int64, error) { return l.buffers.copy(l, src) }

// longAgo as a deadline ends the reads and writes that are under way.
func longAgo() time.Time { return time.Unix(1, 0) }

// interrupt ends the reads and writes that are under way, and all further ones.
func (l *link) interrupt() {
	// An error means that it is closed already.
	_ = l.conn.SetDeadline(longAgo())
}
