package origin

import (
	"errors"
	"io"
	"maps"
	"net/http"

	"golang.org/x/net/http/httpguts"
)

// present makes the origin's response the one that the client is to get.
func (x *Exchange) present() {
	resp := x.resp
	x.closes = resp.Close
	upgrade := resp.Header["Upgrade"]
	stripHopByHop(resp.Header)
	x.siftTrailers()
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		resp.Header["Connection"], resp.Header["Upgrade"] = []string{"Upgrade"}, upgrade
	case resp.Body == http.NoBody:
		x.complete = true
	default:
		x.content = responseBody{x: x, src: resp.Body}
		resp.Body = &x.content
	}
}

// siftTrailers leaves those that the client may get.
func (x *Exchange) siftTrailers() {
	if !x.In.ProtoAtLeast(1, 1) {
		x.resp.Trailer = nil
		return
	}
	maps.DeleteFunc(x.resp.Trailer, func(name string, _ []string) bool { return !httpguts.ValidTrailerHeader(name) })
}

// responseBody is the origin's response body on its way to the client.
type responseBody struct {
	x   *Exchange
	src io.Reader
}

// Read notes how the body ends.
func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.src.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		b.x.complete = true
		b.x.siftTrailers() // there may be more than were announced
	case err != nil:
		b.x.readErr = err
	}
	return n, err
}

// WriteTo copies the body to the client. A response that has arrived whole goes out in one write; otherwise what there is
// goes out before the wait for more.
func (b *responseBody) WriteTo(dst io.Writer) (int64, error) {
	l := b.x.link
	l.client = b.x.Client
	defer func() { l.client = nil }()
	return b.x.t.buffers.copy(dst, b)
}

// Close leaves the origin's connection to Finish.
func (b *responseBody) Close() error { return nil }
