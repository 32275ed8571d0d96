package origin

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"dispatch/dispatcher"
	"dispatch/dispatcher/uplink"
)

var (
	errClientLeft = errors.New("the client left")
	errGivenUp    = errors.New("the request was given up")
	errReset      = errors.New("the response was cut off by a reset")
	errNotRead    = errors.New("the response was not read to its end")
)

// grace is how long the sending of a request's body may go on after the response has ended.
const grace = 50 * time.Millisecond

// bare tells whether the request may be sent again at any time before its response.
func (x *Exchange) bare() bool { return x.body == nil && idempotent(x.In.Method) }

// repeatable tells whether the request may be sent again after err. The sender has ended.
func (x *Exchange) repeatable(err error) bool {
	l := x.link
	switch {
	case l.received, x.body != nil && x.body.started.Load():
		return false
	case !l.reused && errors.Is(err, errNoAnswer):
		return false // the clean end of a new connection is all that the server has to say
	}
	return l.written == 0 || idempotent(x.In.Method)
}

// failed ends the sending of the request, and says why the exchange was broken off: for class and err, unless either is
// but a sign of something else.
func (x *Exchange) failed(class dispatcher.Class, err error) *dispatcher.Error {
	switch {
	case x.Client.Closed():
		class, err = dispatcher.Closed, fmt.Errorf("%w: %w", errGivenUp, err)
	case x.In.Context().Err() != nil:
		class, err = dispatcher.ClientBroken, fmt.Errorf("%w: %w", errClientLeft, err)
	}
	if x.body != nil {
		x.body.stop(x.link, 0)
		if x.body.broken != nil && class == dispatcher.DestinationBroken {
			class, err = dispatcher.ClientBroken, fmt.Errorf("read the request's body: %w", x.body.broken)
		}
	}
	return &dispatcher.Error{Step: dispatcher.StepAnswer, Class: class, Host: x.Request.Host, Err: err}
}

// closeLink closes the link; cause says why, nil for no reason but that it cannot be used again.
func (x *Exchange) closeLink(cause *dispatcher.Error) {
	l := x.link
	x.link = nil
	x.unwatch()
	l.end()
	if cause != nil {
		// What was broken off is no end: the origin, too, is to see that. It is closed again below, to no effect.
		if err := l.conn.Reset(); err != nil {
			x.t.log.Debug("resetting a connection failed", "error", err)
		}
	}
	if x.session == nil && cause != nil {
		x.t.log.Debug("HTTP client ended with an error", "client", x.Request.Client.String(), "error", l.conn.Abandon(cause.Class, cause.Err))
		return
	}
	x.t.pool.discard(l)
}

// endedByReset tells whether what looks like the end of a response that only its connection's end delimits was a reset.
// A kernel tells of a reset once: where the sending of the request was told, reading finds an end, as after a FIN. Linux
// tells that of a reset which came behind a FIN by another error. The sender has ended.
func (x *Exchange) endedByReset() bool {
	toEnd := x.resp.ContentLength < 0 && len(x.resp.TransferEncoding) == 0
	return toEnd && uplink.FailureOf(x.link.writeErr) == uplink.Reset
}

// Finish ends the exchange and its session; sendErr is why the client did not get the response, as far as the caller
// knows. An error says that the response was not handed on whole: the client's connection is to be reset then, for a
// part would look like all. What is unread of the request is to be kept from being taken for the next one.
func (x *Exchange) Finish(sendErr error) (unread bool, err error) {
	if x.link == nil { // there was none, or it has been given away
		x.end(cmp.Or(x.err, sendErr))
		return x.body != nil, nil
	}
	var cause *dispatcher.Error
	switch {
	case sendErr != nil:
		cause = x.failed(dispatcher.ClientBroken, sendErr)
	case x.readErr != nil:
		cause = x.failed(dispatcher.DestinationBroken, fmt.Errorf("read the response's body: %w", x.readErr))
	case !x.complete:
		cause = x.failed(dispatcher.DestinationBroken, errNotRead)
	}
	if x.body != nil && !x.body.sentWhole() {
		// The origin has answered ahead of the request's end. What it said must not wait for that; should it not reach
		// the client, the connection is broken, which is noticed without this.
		_ = x.Client.FlushError()
		x.body.stop(x.link, grace)
		unread = !x.body.sentWhole()
	}
	if cause == nil && x.endedByReset() {
		cause = x.failed(dispatcher.DestinationBroken, errReset)
	}
	if l := x.link; cause == nil && !unread && x.session != nil && !x.closes && l.br.Buffered() == 0 && x.unwatch() {
		l.end()
		if authenticatesConnection(x.In.Header) {
			l.key, x.Owner.owns = ownKeyOf(x.Owner, &x.session.Request), true
		}
		x.t.pool.put(l)
	} else {
		x.closeLink(cause)
	}
	if cause != nil {
		x.end(cause)
		return unread, cause
	}
	x.end(nil)
	return unread, nil
}

// end ends the session, unless the connection has done so with its own.
func (x *Exchange) end(err error) {
	if x.session != nil {
		x.session.End(err)
	}
}
