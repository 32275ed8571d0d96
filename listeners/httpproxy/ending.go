package httpproxy

import (
	"errors"
	"fmt"
	"time"

	"dispatch/dispatcher"
)

var (
	errClientLeft = errors.New("the client left")
	errGivenUp    = errors.New("the request was given up")
	errNotRead    = errors.New("the response was not read to its end")
)

// grace is how long the sending of a request's body may go on after the response has ended.
const grace = 50 * time.Millisecond

// repeatable tells whether the request may be sent again after err. The sender has ended.
func (x *exchange) repeatable(err error) bool {
	l := x.link
	switch {
	case l.received, x.body != nil && x.body.started.Load():
		return false
	case !l.reused && errors.Is(err, errNoAnswer):
		return false // the clean end of a new connection is all that the server has to say
	}
	return l.written == 0 || idempotent(x.in.Method)
}

// because classes what broke the exchange off, and ends the sending of the request.
func (x *exchange) because(err error) *dispatcher.Error {
	class := dispatcher.DestinationBroken
	switch {
	case x.client.Aborted(), x.client.ctx.Err() != nil:
		class, err = dispatcher.Closed, fmt.Errorf("%w: %w", errGivenUp, err)
	case x.in.Context().Err() != nil:
		class, err = dispatcher.ClientBroken, fmt.Errorf("%w: %w", errClientLeft, err)
	case x.writeErr != nil:
		class = dispatcher.ClientBroken
	}
	if x.body != nil {
		x.body.stop(x.client, x.link, 0)
		if x.body.broken != nil && class == dispatcher.DestinationBroken {
			class, err = dispatcher.ClientBroken, fmt.Errorf("read the request's body: %w", x.body.broken)
		}
	}
	return &dispatcher.Error{Step: dispatcher.StepAnswer, Class: class, Host: x.request.Host, Err: err}
}

// drop closes the link; cause says why, nil for no reason but that it cannot be used again.
func (x *exchange) drop(cause *dispatcher.Error) {
	l := x.link
	x.link = nil
	x.unwatch()
	l.end()
	if cause != nil {
		// What was broken off is no end: the origin, too, is to see that. It is closed again below, to no effect.
		if err := l.conn.Reset(); err != nil {
			x.h.log.Debug("resetting a connection failed", "error", err)
		}
	}
	if x.session == nil && cause != nil {
		x.h.logEnd(x.client, l.conn.Abandon(cause.Class, cause.Err))
		return
	}
	x.h.pool.discard(l)
}

// outcome is what broke off the copying of the response, nil for nothing.
func (x *exchange) outcome() *dispatcher.Error {
	switch {
	case x.writeErr != nil:
		return x.because(fmt.Errorf("send to the client: %w", x.writeErr))
	case x.readErr != nil:
		return x.because(fmt.Errorf("read the response's body: %w", x.readErr))
	case !x.complete:
		return x.because(errNotRead)
	}
	return nil
}

// finish ends the exchange and its session. It tells whether the client got a whole response; if not, its connection
// has to be reset, for a part would look like all.
func (x *exchange) finish() (whole bool) {
	x.finished = true
	if x.link == nil { // there was none, or it is a tunnel's now
		if x.body != nil {
			x.client.cutInput()
		}
		x.end(x.err)
		return true
	}
	cause := x.outcome()
	sent := x.body == nil || x.body.sentWhole()
	if !sent {
		// The origin has answered ahead of the request's end. What it said must not wait for that.
		x.w.Flush()
		x.body.stop(x.client, x.link, grace)
		if sent = x.body.sentWhole(); !sent {
			x.client.cutInput()
		}
	}
	if l := x.link; cause == nil && sent && x.session != nil && !x.resp.Close && l.br.Buffered() == 0 && x.unwatch() {
		l.end()
		if authenticatesConnection(x.in.Header) {
			l.key, x.client.owner = ownKeyOf(x.client, &x.session.Request), true
		}
		x.h.pool.put(l)
	} else {
		x.drop(cause)
	}
	if cause != nil {
		x.end(cause)
		return false
	}
	x.end(nil)
	return true
}

// end ends the session, unless the connection has done so with its own.
func (x *exchange) end(err error) {
	if x.session != nil {
		x.session.End(err)
	}
}
