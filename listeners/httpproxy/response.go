package httpproxy

import (
	"errors"
	"io"
	"net/http"

	"golang.org/x/net/http/httpguts"
)

// heldBack is more than net/http's buffers keep of a larger write: what is left there then is framing.
const heldBack = 12 << 10

// deliver makes the response that goproxy writes to the client of the origin's.
func (x *exchange) deliver() *http.Response {
	origin := x.resp
	upgrade := origin.Header["Upgrade"]
	stripHopByHop(origin.Header)
	resp := &http.Response{
		StatusCode: origin.StatusCode, Status: origin.Status, Header: origin.Header, Request: x.in,
		ContentLength: origin.ContentLength, Body: http.NoBody,
	}
	if _, ok := resp.Header["Content-Type"]; !ok {
		resp.Header["Content-Type"] = nil // or net/http guesses one
	}
	if !x.in.ProtoAtLeast(1, 1) {
		// RFC 9112 section 9.3: no persistent connection with an HTTP/1.0 client.
		resp.Header["Connection"] = []string{"close"}
	}
	switch {
	case origin.StatusCode == http.StatusSwitchingProtocols:
		resp.Header["Connection"], resp.Header["Upgrade"] = []string{"Upgrade"}, upgrade
		x.w.switching = func() { x.switchProtocols(resp) }
	case origin.Body == http.NoBody:
		x.complete = true
	default:
		resp.Body = &responseBody{x: x, resp: resp}
		for name := range origin.Trailer {
			if httpguts.ValidTrailerHeader(name) && x.in.ProtoAtLeast(1, 1) {
				addTrailer(resp, name, nil)
			}
		}
	}
	return resp
}

func addTrailer(resp *http.Response, name string, values []string) {
	if resp.Trailer == nil {
		resp.Trailer = make(http.Header)
	}
	resp.Trailer[name] = values
}

// responseBody is the origin's response body on its way to the client.
type responseBody struct {
	x    *exchange
	resp *http.Response // as goproxy has it
}

// Read notes how the body ends.
func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.x.resp.Body.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		b.x.complete = true
		for name, values := range b.x.resp.Trailer {
			if httpguts.ValidTrailerHeader(name) && b.x.in.ProtoAtLeast(1, 1) {
				addTrailer(b.resp, name, values)
			}
		}
	case err != nil:
		b.x.readErr = err
	}
	return n, err
}

// WriteTo copies the body to the client, without holding anything back while it waits for more. goproxy's io.Copy
// prefers it to a copy of its own, which would flush event streams only.
func (b *responseBody) WriteTo(dst io.Writer) (copied int64, err error) {
	x := b.x
	// A response that has arrived whole goes out in one write; otherwise what there is goes out before the wait.
	x.link.beforeRead = x.flush
	defer func() { x.link.beforeRead = nil }()
	c := copier{b: &x.h.buffers}
	defer c.release()
	for {
		data, err := c.read(b)
		if len(data) > 0 {
			n, writeErr := dst.Write(data)
			copied += int64(n)
			if writeErr != nil {
				x.writeErr = writeErr
				return copied, writeErr
			}
			x.w.pending = len(data) <= heldBack
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return copied, err
		}
	}
}

// Close leaves the origin's connection to finish.
func (b *responseBody) Close() error { return nil }

func (x *exchange) flush() error {
	if err := x.w.flushPending(); err != nil {
		x.writeErr = err
		return err
	}
	return nil
}
