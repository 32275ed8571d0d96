package origin

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

var errNotSent = errors.New("the rest of the request was not asked for")

// requestBody is a request's body, read by the goroutine that sends it to the origin while the one that serves the
// client waits for the response.
type requestBody struct {
	x     *Exchange
	waits bool // the client, for a 100 (Continue)

	started atomic.Bool // the client's body has been read from
	broken  error       // what reading from the client failed with
	sendErr error       // what the sending failed with; like broken, to be read when the sender has ended

	asking  sync.Once
	wanted  bool          // of the sender
	proceed chan struct{} // closed when the origin wants the body
	stopped chan struct{} // closed when it is not to be read any more
	sender  chan struct{} // closed when the sender has ended; nil when there was none
}

// open readies the body for being sent; once more for a retry, when nothing was read.
func (b *requestBody) open() {
	b.asking, b.wanted = sync.Once{}, false
	b.proceed, b.stopped, b.sender = make(chan struct{}), make(chan struct{}), make(chan struct{})
}

// send is the sender's goroutine. When the origin takes no more, its response says why, or the end of that; when the
// client gives no more, there is nothing to be waited for.
func (b *requestBody) send(l *link) {
	b.sendErr = b.x.write(l)
	if b.broken != nil {
		l.interrupt()
	}
	close(b.sender)
}

// Read waits until the body is wanted, and reads from the client.
func (b *requestBody) Read(p []byte) (int, error) {
	b.asking.Do(b.await)
	if !b.wanted {
		return 0, errNotSent
	}
	b.started.Store(true) // before the look at stopped, for stop looks in the other order
	if isClosed(b.stopped) {
		return 0, errNotSent
	}
	n, err := b.x.In.Body.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		if b.x.out.Trailer != nil {
			for name, values := range b.x.In.Trailer {
				if httpguts.ValidTrailerHeader(name) {
					b.x.out.Trailer[name] = values
				}
			}
		}
	case err != nil && !isClosed(b.stopped):
		b.broken = err
	}
	return n, err
}

// await returns when the body is wanted, or not, or when that has been left open for long enough.
func (b *requestBody) await() {
	if !b.waits {
		b.wanted = true
		return
	}
	timer := time.NewTimer(b.x.t.proceed)
	defer timer.Stop()
	select {
	case <-b.proceed:
		b.wanted = true
	case <-b.stopped:
	case <-timer.C:
		// net/http would tell the client by itself at the first read, but without regard to what the other
		// goroutine may be writing to it.
		b.wanted = b.x.interim(http.StatusContinue, nil)
	}
}

// Close leaves the client's body alone: net/http closes it after the request, and a retry needs it.
func (b *requestBody) Close() error { return nil }

// goAhead is called when the origin wants the body. Some say so more than once.
func (b *requestBody) goAhead() {
	if !isClosed(b.proceed) {
		close(b.proceed)
	}
}

// sentWhole tells whether the body has been sent, to its end.
func (b *requestBody) sentWhole() bool {
	return b.sender != nil && isClosed(b.sender) && b.sendErr == nil
}

// stop ends the sending over l and waits for that, after up to patience for its own end. Then what the sender has noted
// can be read. What the client still sends is lost, if something was read from it.
func (b *requestBody) stop(l *link, patience time.Duration) {
	if b.sender == nil || isClosed(b.sender) {
		return
	}
	if patience > 0 && b.started.Load() {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-b.sender:
			return
		case <-timer.C:
		}
	}
	close(b.stopped)
	l.interrupt()
	if b.started.Load() {
		b.x.Client.StopReading()
	}
	<-b.sender
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
