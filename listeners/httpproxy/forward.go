package httpproxy

import (
	"bytes"
	"errors"
	"net/http"

	"github.com/elazarl/goproxy"

	"dispatch/listeners/httpproxy/origin"
)

var errPanicked = errors.New("serving the request panicked; the log has the stack")

// exchange is one plain request of a client with its response.
type exchange struct {
	origin.Exchange
	h      *Handler
	client *client
	w      *writer
}

// forward serves a plain request.
func (h *Handler) forward(c *client, w http.ResponseWriter, r *http.Request) {
	host, port, refusal := destinationOf(r)
	if refusal == nil {
		refusal = lastHop(r)
	}
	if refusal != nil {
		reply(w, refusal)
		return
	}
	x := &exchange{h: h, client: c, w: &writer{ResponseWriter: w, client: c}}
	x.Client, x.Owner, x.In, x.Request = x.w, &c.owner, r, c.request("http", r, host, port)
	if r.ContentLength != 0 {
		// Some origins answer while the request is still coming. An error would mean that this is no net/http server.
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	c.exchange = x
	finished := false
	defer func() {
		c.exchange = nil
		if !finished { // a panic is on its way, which resets the client's connection whatever Finish says
			_, _ = x.Finish(errPanicked)
		}
	}()
	h.proxy.ServeHTTP(x.w, r)
	finished = true
	unread, err := x.Finish(x.w.err)
	if unread {
		c.cutInput()
	}
	if err != nil {
		_ = x.w.FlushError() // x.w.err has it
		h.logClose(c.Abort())
		panic(http.ErrAbortHandler)
	}
}

// RoundTrip is goproxy's way to the origin. A failure is a response, too: goproxy would print an error's text.
func (x *exchange) RoundTrip(r *http.Request, _ *goproxy.ProxyCtx) (*http.Response, error) {
	resp, err := x.h.origins.Fetch(&x.Exchange)
	if err != nil {
		return failure(r, x.Request.Host, err), nil
	}
	if _, ok := resp.Header["Content-Type"]; !ok {
		resp.Header["Content-Type"] = nil // or net/http guesses one
	}
	if !r.ProtoAtLeast(1, 1) {
		// RFC 9112 section 9.3: no persistent connection with an HTTP/1.0 client.
		resp.Header["Connection"] = []string{"close"}
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		x.w.switching = func() { x.switchProtocols(resp) }
	}
	return resp, nil
}

// switchProtocols turns the exchange into a tunnel.
func (x *exchange) switchProtocols(resp *http.Response) {
	if _, _, err := x.w.Hijack(); err != nil {
		x.w.err = err
		return
	}
	conn, read, err := x.Detach()
	if err != nil {
		x.w.err = err
		return
	}
	head := bytes.NewBufferString("HTTP/1.1 101 Switching Protocols\r\n")
	// Writing to a buffer cannot fail.
	_ = resp.Header.Write(head)
	head.WriteString("\r\n")
	head.Write(read)
	x.h.tunnel(x.client, conn, head.Bytes())
}
