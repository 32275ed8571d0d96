package origin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"dispatch/dispatcher"
)

var (
	errNoAnswer  = errors.New("the connection was closed before a response")
	errBadStatus = errors.New("the response's status is below 100")
	errUnasked   = errors.New("the origin switches to a protocol that was not offered")
)

// Client is whom an exchange is for.
type Client interface {
	// Interim sends a 1xx response at once. It is called by one goroutine at a time, and not once Fetch has returned.
	Interim(status int, header http.Header)
	// FlushError sends what was written and may be held back; called before more is waited for.
	FlushError() error
	// StopReading ends the reading of the request's body that is under way, and all further reading.
	StopReading()
	// Closed tells whether this program has ended the client's connection, and not the client.
	Closed() bool
}

// Owner is a client's connection as the owner of those to origins that it has logged on, which nobody else may use.
type Owner struct{ owns bool }

// Exchange is one plain request of a client with its response, and its session. All of it belongs to the goroutine that
// serves the client, except for the sending of the request's body.
type Exchange struct {
	// Client is whom it is for.
	Client Client
	// Owner is that client's connection.
	Owner *Owner
	// In is the client's request, in absolute form, as http.Server has it. Fetch changes its Header.
	In *http.Request
	// Request is the same to the dispatcher.
	Request dispatcher.Request

	t       *Transport
	out     *http.Request
	upgrade string       // the protocols offered
	body    *requestBody // nil for none

	session *dispatcher.Session // nil where the link's connection has one of its own
	link    *link               // nil when there is none, or it has been given away
	unwatch func() bool         // ends the watch over the client; false when the client has left

	resp     *http.Response
	content  responseBody // of resp
	closes   bool         // the origin closes the connection after it
	complete bool         // the response was read to its end
	readErr  error        // why not
	err      error        // why there is none

	interims sync.Mutex // orders the interim responses, which two goroutines send
	final    bool       // under interims: the final response is next
}

// Fetch sends x's request on, through the line whose turn it is, and returns the response as the client is to get it: its
// body ends as the origin's does, and writes itself to the client without holding anything back. Errors are
// *dispatcher.Error. x.Finish is to be called, whatever comes of it.
func (t *Transport) Fetch(x *Exchange) (*http.Response, error) {
	x.t = t
	x.prepare()
	if x.upgrade != "" {
		x.err = x.fetchAlone()
	} else {
		x.session = t.dispatcher.Begin(x.Request)
		x.err = x.fetch()
	}
	if x.err != nil {
		return nil, x.err
	}
	x.present()
	return x.resp, nil
}

// fetch gets the response over a kept connection of the line whose turn it is, or over a new one.
func (x *Exchange) fetch() error {
	ctx := x.In.Context()
	route, err := x.t.dispatcher.Route(ctx, &x.session.Request)
	if err != nil {
		return err
	}
	limit := idleTimeout
	if !x.bare() {
		limit = x.t.unsafeIdle
	}
	var l *link
	if x.Owner.owns {
		l = x.t.pool.take(ownKeyOf(x.Owner, &x.session.Request), idleTimeout)
	}
	if l == nil {
		l = x.t.pool.take(keyOf(route.Uplink(), &x.session.Request), limit)
	}
	for opened := 0; ; {
		if l == nil {
			opened++
			conn, err := x.t.dispatcher.Connect(ctx, route, x.session)
			if err != nil {
				return err
			}
			// It may have left by another line than the one whose turn it was.
			l = &link{conn: conn, key: keyOf(conn.Uplink(), &x.session.Request), buffers: &x.t.buffers}
		}
		l.conn.Serve(x.session)
		again, err := x.try(l, opened)
		if err == nil || !again {
			return err
		}
		if !l.reused || l.stage.Load() == givenUp {
			// Not by the same line, if there is another.
			if route, err = x.t.dispatcher.Route(ctx, &x.session.Request); err != nil {
				return err
			}
		}
		l = nil
	}
}

// fetchAlone is fetch for a request that offers to switch protocols: its connection is used for nothing else, and
// brings a session that can be given away with it.
func (x *Exchange) fetchAlone() error {
	for opened := 1; ; opened++ {
		conn, err := x.t.dispatcher.Dial(x.In.Context(), x.Request)
		if err != nil {
			return err
		}
		again, err := x.try(&link{conn: conn, buffers: &x.t.buffers}, opened)
		if err == nil || !again {
			return err
		}
	}
}

// maxOpened is how many connections are opened for one request.
const maxOpened = 2

// try gets the response over l, when so many connections have been opened for it. After an error l is closed, and again
// tells whether the request may be sent over another.
func (x *Exchange) try(l *link, opened int) (again bool, err error) {
	x.link = l
	err = x.roundTrip(l, opened >= maxOpened)
	if err == nil {
		return false, nil
	}
	left := x.In.Context().Err() != nil // as the failure found it
	cause := x.failed(dispatcher.DestinationBroken, err)
	again = opened < maxOpened && !left && x.repeatable(err)
	x.closeLink(cause)
	return again, cause
}

// roundTrip sends the request over l and reads the response's head; last says that there is to be no further try.
func (x *Exchange) roundTrip(l *link, last bool) error {
	l.begin()
	x.t.awaited.add(l, x.bare(), last)
	defer x.t.awaited.remove(l)
	x.unwatch = context.AfterFunc(x.In.Context(), l.interrupt)
	if x.body != nil {
		x.body.open()
		go x.body.send(l)
		return x.readHead(l)
	}
	sendErr := x.write(l)
	if err := x.readHead(l); err != nil {
		return cmp.Or(sendErr, err)
	}
	// An origin that takes no more of a long head has said why, and closes.
	x.resp.Close = x.resp.Close || sendErr != nil
	return nil
}

func (x *Exchange) write(l *link) error {
	err := x.out.Write(l.bw)
	if err == nil {
		err = l.bw.Flush()
	}
	if err != nil {
		return fmt.Errorf("send the request: %w", err)
	}
	return nil
}

// readHead reads the response's head, and passes on what comes before the final one.
func (x *Exchange) readHead(l *link) error {
	for {
		var resp *http.Response
		options, err := connectionOptions(l.br)
		if err == nil {
			resp, err = http.ReadResponse(l.br, x.out)
		}
		if err != nil {
			if !l.received && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
				err = errNoAnswer
			}
			return fmt.Errorf("read the response: %w", err)
		}
		if _, kept := resp.Header["Connection"]; !kept && len(options) > 0 {
			resp.Header["Connection"] = options
		}
		switch status := resp.StatusCode; {
		case status < http.StatusContinue:
			return errBadStatus // net/http would panic at it
		case status == http.StatusSwitchingProtocols:
			if x.upgrade == "" || !switchesTo(resp.Header, x.upgrade) {
				return errUnasked
			}
		case status < http.StatusOK:
			stripHopByHop(resp.Header)
			x.interim(status, resp.Header)
			if status == http.StatusContinue && x.body != nil {
				x.body.goAhead()
			}
			l.head = maxResponseHead
			continue
		}
		if !l.stage.CompareAndSwap(heard, answered) {
			return errLineGivenUp
		}
		x.interims.Lock()
		x.final = true
		x.interims.Unlock()
		l.head = -1
		x.resp = resp
		return nil
	}
}

// interim passes a 1xx response on. It tells whether there was still time for one.
func (x *Exchange) interim(status int, header http.Header) bool {
	x.interims.Lock()
	defer x.interims.Unlock()
	if !x.final && x.In.ProtoAtLeast(1, 1) { // none for HTTP/1.0 (RFC 9110 section 15.2)
		x.Client.Interim(status, header)
	}
	return !x.final
}

// Detach gives away the connection of a response of status 101, with what has been read of the new protocol.
func (x *Exchange) Detach() (conn *dispatcher.Conn, read []byte, err error) {
	if !x.unwatch() {
		return nil, nil, errClientLeft
	}
	l := x.link
	x.link = nil
	// A copy, for the buffer is given back. Peeking at what is buffered cannot fail.
	held, _ := l.br.Peek(l.br.Buffered())
	read = append(read, held...)
	l.end()
	return l.conn, read, nil
}
