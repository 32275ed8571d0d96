package httpproxy

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/elazarl/goproxy"

	"dispatch/dispatcher"
)

// tunnel is a connection to a destination that a client's becomes one with: by CONNECT, or by a protocol switch.
type tunnel struct {
	h       *Handler
	client  *client
	dst     *dispatcher.Conn // with a session of its own; nil when there is none
	refusal *http.Response   // when there is none
	head    []byte           // the answer that opens it
}

var errNotOpened = errors.New("the tunnel could not be opened")

// tunnel serves a CONNECT.
func (h *Handler) tunnel(c *client, w http.ResponseWriter, r *http.Request) {
	t := &tunnel{h: h, client: c, head: fmt.Appendf(nil, "HTTP/1.%d 200 Connection established\r\n\r\n", min(1, r.ProtoMinor))}
	c.tunnel = t
	defer func() {
		c.tunnel = nil
		t.abandon()
	}()
	h.proxy.ServeHTTP(&writer{ResponseWriter: w, client: c}, r)
	if !c.hijacked { // its connection has broken meanwhile; net/http would answer with a 200
		h.logClose(c.Abort())
		panic(http.ErrAbortHandler)
	}
}

// abandon closes a destination that never became a tunnel's.
func (t *tunnel) abandon() {
	if t.dst != nil {
		t.h.logEnd(t.client, t.dst.Abandon(dispatcher.ClientBroken, errNotOpened))
	}
}

// connect is what goproxy asks what to do with a CONNECT. It dials here, before goproxy takes the connection over:
// only until then does net/http notice that a client has left, and ends the dial.
func (h *Handler) connect(_ string, ctx *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
	t := clientOf(ctx.Req).tunnel
	t.dst, t.refusal = h.dial(t.client, ctx.Req)
	return &goproxy.ConnectAction{Action: goproxy.ConnectHijack, Hijack: t.opened}, ""
}

// dial connects to what a CONNECT names; otherwise it returns the page that says why not. The request's context
// bounds the dial only: it ends when the tunnel begins.
func (h *Handler) dial(c *client, r *http.Request) (*dispatcher.Conn, *http.Response) {
	host, port, err := authorityOf(r.URL, 0)
	if err == nil && (r.URL.Path != "" || r.URL.RawQuery != "") {
		err = errAuthority
	}
	if err != nil {
		return nil, page(r, http.StatusBadRequest, err.Error())
	}
	req := c.request("connect", r, host, port)
	dst, err := h.dispatcher.Dial(r.Context(), req)
	if err != nil {
		return nil, failure(r, host, err)
	}
	return dst, nil
}

var errAuthority = errors.New("CONNECT takes a host and a port only, such as example.com:443")

// opened is called when goproxy has taken the connection over.
func (t *tunnel) opened(_ *http.Request, _ net.Conn, _ *goproxy.ProxyCtx) {
	if t.dst == nil {
		var answer bytes.Buffer
		if err := t.refusal.Write(&answer); err != nil {
			t.h.log.Error("composing an answer failed", "error", err)
			return
		}
		if _, err := t.client.Write(answer.Bytes()); err != nil {
			t.h.logEnd(t.client, err)
		}
		return
	}
	t.start()
}

// start answers the client and begins to copy. It returns at once, so that net/http's goroutine is freed with its stack
// and its buffers.
func (t *tunnel) start() {
	h, c, dst := t.h, t.client, t.dst
	t.dst = nil // it is closed below, or by the copying
	if _, err := c.Write(t.head); err != nil {
		h.logEnd(c, dst.Abandon(dispatcher.ClientBroken, err))
		h.logClose(c.Conn.Close())
		return
	}
	conn, early := c.Conn, c.early
	c.handed = true
	h.handOver(c)
	conn.Tunnel(dst, early, func(err error) {
		defer h.forget(conn)
		if err != nil {
			h.log.Debug("HTTP tunnel ended with an error", "client", conn.Client().String(), "error", err)
		}
	})
}

// logEnd takes the errors that ended a client's business. The session's record has them, too.
func (h *Handler) logEnd(c *client, err error) {
	h.log.Debug("HTTP client ended with an error", "client", c.Client().String(), "error", err)
}

// request makes the dispatcher's request of a client's.
func (c *client) request(protocol string, r *http.Request, host string, port uint16) dispatcher.Request {
	req := c.Request(protocol)
	req.User, req.Host, req.Port = userOf(r), host, port
	return req
}

// userOf returns the name that the client gave to the proxy, for the records. Any will do.
func userOf(r *http.Request) string {
	scheme, credentials, _ := strings.Cut(r.Header.Get("Proxy-Authorization"), " ")
	if !strings.EqualFold(scheme, "Basic") {
		return ""
	}
	decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(credentials))
	if err != nil {
		return ""
	}
	user, _, _ := strings.Cut(string(decoded), ":")
	return user
}
