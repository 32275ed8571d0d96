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

// connect serves a CONNECT.
func (h *Handler) connect(c *client, w http.ResponseWriter, r *http.Request) {
	h.proxy.ServeHTTP(&writer{ResponseWriter: w, client: c}, r)
	if !c.hijacked { // its connection has broken meanwhile; net/http would answer with a 200
		h.logClose(c.Abort())
		panic(http.ErrAbortHandler)
	}
}

// connected is what goproxy calls when it has taken over the connection of a client that sent a CONNECT. What net/http
// had read of it is in early now, and nobody reads from it during the dial: Dialing sees whether the client leaves.
func (h *Handler) connected(r *http.Request, _ net.Conn, _ *goproxy.ProxyCtx) {
	c := clientOf(r)
	dst, refusal := h.dial(c, r)
	if refusal == nil {
		h.tunnel(c, dst, fmt.Appendf(nil, "HTTP/1.%d 200 Connection established\r\n\r\n", min(1, r.ProtoMinor)))
		return
	}
	var answer bytes.Buffer
	if err := refusal.Write(&answer); err != nil {
		h.log.Error("composing an answer failed", "error", err)
		return
	}
	if _, err := c.Write(answer.Bytes()); err != nil {
		h.logEnd(c, err)
	}
}

// dial connects to what a CONNECT names; otherwise it returns the page that says why not. With the dial the context of the
// client's requests ends: this is the last.
func (h *Handler) dial(c *client, r *http.Request) (*dispatcher.Conn, *http.Response) {
	host, port, err := authorityOf(r.URL, 0)
	if err == nil && (r.URL.Path != "" || r.URL.RawQuery != "") {
		err = errAuthority
	}
	if err != nil {
		return nil, page(r, http.StatusBadRequest, err.Error())
	}
	stop := c.Dialing(c.cancel, len(c.early) > 0)
	dst, err := h.dispatcher.Dial(r.Context(), c.request("connect", r, host, port))
	stop()
	if err != nil {
		return nil, failure(r, host, err)
	}
	return dst, nil
}

var errAuthority = errors.New("CONNECT takes a host and a port only, such as example.com:443")

// tunnel makes a client's connection, which has been taken over, one with that to a destination, be it by CONNECT or by a
// protocol switch: it sends the client the head of its answer and begins to copy. It returns at once, so that net/http's
// goroutine is freed with its stack and its buffers.
func (h *Handler) tunnel(c *client, dst *dispatcher.Conn, head []byte) {
	if _, err := c.Write(head); err != nil {
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
