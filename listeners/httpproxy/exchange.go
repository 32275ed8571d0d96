package httpproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/elazarl/goproxy"

	"dispatch/dispatcher"
)

var (
	errNoAnswer  = errors.New("the connection was closed before a response")
	errBadStatus = errors.New("the response's status is below 100")
	errUnasked   = errors.New("the origin switches to a protocol that was not offered")
)

// exchange is one plain request of a client with its response. All of it belongs to the goroutine that serves the
// client, except for the sending of the request's body.
type exchange struct {
	h        *Handler
	client   *client
	w        *writer
	in, out  *http.Request
	request  dispatcher.Request
	upgrade  string // the protocols offered
	trailers bool   // the client takes trailers
	body     *requestBody

	session *dispatcher.Session // nil where the link's connection has one of its own
	link    *link               // nil when there is none, or it has been left to a tunnel
	unwatch func() bool         // ends the watch over the client; false when the client has left

	resp     *http.Response // the origin's
	complete bool           // it was read to its end
	readErr  error          // why not
	writeErr error          // why the client did not get it
	err      error          // why there is none
	finished bool
}

// forward serves a plain request.
func (h *Handler) forward(c *client, w http.ResponseWriter, r *http.Request) {
	host, port, problem := destinationOf(r)
	if problem != nil {
		reply(w, problem)
		return
	}
	if answer := lastHop(r); answer != nil {
		reply(w, answer)
		return
	}
	x := &exchange{h: h, client: c, in: r, request: c.request("http", r, host, port)}
	x.w = &writer{ResponseWriter: w, client: c, request: r}
	x.prepare()
	c.exchange = x
	defer func() {
		c.exchange = nil
		if !x.finished { // a panic is on its way
			x.err = errGivenUp
			x.finish()
		}
	}()
	h.proxy.ServeHTTP(x.w, r)
	if !x.finish() {
		x.w.Flush()
		h.logClose(c.Abort())
		panic(http.ErrAbortHandler)
	}
}

// prepare makes the outgoing request.
func (x *exchange) prepare() {
	x.upgrade, x.trailers = upgradeOf(x.in), wantsTrailers(x.in.Header)
	waits := expectsContinue(x.in)
	x.out = outgoing(x.in, waits)
	if x.out.Body == nil {
		return
	}
	// Some origins answer while the request is still coming. An error would mean that this is no net/http server.
	_ = http.NewResponseController(x.w.ResponseWriter).EnableFullDuplex()
	x.body = &requestBody{src: x.in.Body, in: x.in, trailers: x.out.Trailer, patience: x.h.limits.proceed}
	if waits {
		x.body.ask = func() bool { return x.w.interim(http.StatusContinue, nil) }
	}
	x.out.Body = x.body
}

// RoundTrip is goproxy's way to the origin. A failure is a response, too: goproxy would print an error's text.
func (x *exchange) RoundTrip(_ *http.Request, _ *goproxy.ProxyCtx) (*http.Response, error) {
	connectionOf(x.out, x.upgrade, x.trailers)
	var err error
	if x.upgrade != "" {
		err = x.fetchAlone()
	} else {
		x.session = x.h.dispatcher.Begin(x.request)
		err = x.fetch()
	}
	if err != nil {
		x.err = err
		return failure(x.in, x.request.Host, err), nil
	}
	return x.deliver(), nil
}

// fetch gets the response through the line whose turn it is.
func (x *exchange) fetch() error {
	ctx := x.in.Context()
	route, err := x.h.dispatcher.Route(ctx, &x.session.Request)
	if err != nil {
		return err
	}
	limit := idleTimeout
	if x.body != nil || !idempotent(x.in.Method) {
		limit = x.h.limits.unsafeIdle
	}
	var l *link
	if x.client.owner {
		l = x.h.pool.take(ownKeyOf(x.client, &x.session.Request), idleTimeout)
	}
	if l == nil {
		l = x.h.pool.take(keyOf(route.Uplink(), &x.session.Request), limit)
	}
	for opened := 0; ; {
		if l == nil {
			opened++
			conn, err := x.h.dispatcher.Connect(ctx, route, x.session)
			if err != nil {
				return err
			}
			// It may have left by another line than the one whose turn it was.
			l = &link{conn: conn, key: keyOf(conn.Uplink(), &x.session.Request), buffers: &x.h.buffers}
		}
		l.conn.Serve(x.session)
		err := x.try(l, opened >= maxOpened)
		if err == nil {
			return nil
		}
		left := ctx.Err() != nil
		cause := x.because(err)
		again := opened < maxOpened && !left && x.repeatable(err)
		x.drop(cause)
		if !again {
			return cause
		}
		if !l.reused || l.stage.Load() == givenUp {
			// Not by the same line, if there is another.
			if route, err = x.h.dispatcher.Route(ctx, &x.session.Request); err != nil {
				return err
			}
		}
		l = nil
	}
}

// maxOpened is how many connections are opened for one request.
const maxOpened = 2

// fetchAlone is fetch for a request that offers to switch protocols: its connection is used for nothing else, and
// brings a session that a tunnel can take over.
func (x *exchange) fetchAlone() error {
	for opened := 1; ; opened++ {
		conn, err := x.h.dispatcher.Dial(x.in.Context(), x.request)
		if err != nil {
			return err
		}
		err = x.try(&link{conn: conn, buffers: &x.h.buffers}, opened >= maxOpened)
		if err == nil {
			return nil
		}
		again := opened < maxOpened && x.in.Context().Err() == nil && x.repeatable(err)
		cause := x.because(err)
		x.drop(cause)
		if !again {
			return cause
		}
	}
}

// try sends the request through l and reads the response's head; last says that there is to be no further try.
func (x *exchange) try(l *link, last bool) error {
	x.link = l
	l.begin()
	x.h.awaited.add(l, x.body == nil && idempotent(x.in.Method), last)
	defer x.h.awaited.remove(l)
	x.unwatch = context.AfterFunc(x.in.Context(), l.interrupt)
	if x.body != nil {
		x.body.open()
		go x.send(l)
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

func (x *exchange) write(l *link) error {
	if err := x.out.Write(l.bw); err != nil {
		return fmt.Errorf("send the request: %w", err)
	}
	if err := l.bw.Flush(); err != nil {
		return fmt.Errorf("send the request: %w", err)
	}
	return nil
}

// send is the sender's goroutine. When the origin takes no more, its response says why, or the end of that; when the
// client gives no more, there is nothing to be waited for.
func (x *exchange) send(l *link) {
	x.body.sendErr = x.write(l)
	if x.body.broken != nil {
		l.interrupt()
	}
	close(x.body.sender)
}

// readHead reads the response's head, and passes on what comes before the final one.
func (x *exchange) readHead(l *link) error {
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
			x.pass(resp)
			l.head = maxResponseHead
			continue
		}
		if !l.stage.CompareAndSwap(heard, answered) {
			return errLineGivenUp
		}
		x.w.endInterim()
		l.head = -1
		x.resp = resp
		return nil
	}
}

// pass hands an interim response to the client.
func (x *exchange) pass(resp *http.Response) {
	stripHopByHop(resp.Header)
	x.w.interim(resp.StatusCode, resp.Header)
	if resp.StatusCode == http.StatusContinue && x.body != nil {
		x.body.goAhead()
	}
}
