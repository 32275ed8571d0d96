package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"golang.org/x/sys/unix"
)

// httpClients is how many keep a connection each.
const httpClients = 8

func requestTests() []test {
	return []test{{
		name: "http", title: "Plain HTTP",
		about: fmt.Sprintf("GET of %d bytes by %d clients that keep their connections, where the proxy lets them.", bodySize, httpClients),
		metrics: []metric{
			{name: "requests/s", format: "%.0f", against: share, summary: "plain HTTP, share of direct"},
			{name: "CPU us/request", format: "%.0f", summary: "CPU us/request"},
			{name: "requests/connection", format: "%.0f"},
		},
		fits: func(c *contender) bool { return c.http.IsValid() },
		run:  requests,
	}}
}

func requests(ctx context.Context, b *bench, c *contender) ([]float64, error) {
	clients := make(chan *httpClient, httpClients)
	all := make([]*httpClient, httpClients)
	for i := range all {
		all[i] = newHTTPClient(c)
		clients <- all[i]
	}
	defer func() {
		for _, client := range all {
			client.hangUp()
		}
	}()
	var done int64
	var took time.Duration
	cpu, err := metered(ctx, c, func() (err error) {
		done, took, err = repeat(httpClients, b.o.requests, b.o.limit, func() error {
			client := <-clients
			defer func() { clients <- client }()
			return client.get(ctx)
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	connections := 0
	for _, client := range all {
		connections += client.connections
	}
	return []float64{float64(done) / took.Seconds(), cpu * 1e6 / float64(done), float64(done) / float64(connections)}, nil
}

// httpClient is one that costs little: the load's own work is not to hide the proxy's.
type httpClient struct {
	to          *contender
	request     []byte
	conn        net.Conn // nil: none is kept
	used        int      // requests that conn has served
	reader      *bufio.Reader
	connections int // opened so far
}

func newHTTPClient(c *contender) *httpClient {
	host := at(c.server, serviceHTTP).String()
	target := "/"
	if c.absolute {
		target = "http://" + host + "/"
	}
	request := "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: compare\r\nAccept: */*\r\n\r\n"
	return &httpClient{to: c, request: []byte(request), reader: bufio.NewReader(nil)}
}

// get makes one request, on a new connection where the kept one turns out to have been closed.
func (h *httpClient) get(ctx context.Context) error {
	err := h.exchange(ctx)
	if h.used > 0 && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)) {
		h.hangUp()
		err = h.exchange(ctx)
	}
	return err
}

// exchange makes one request, and checks that the answer is the whole object.
func (h *httpClient) exchange(ctx context.Context) error {
	if h.conn == nil {
		conn, err := dial(ctx, h.to.http)
		if err != nil {
			return err
		}
		h.conn = conn
		h.reader.Reset(conn)
		h.connections++
		h.used = 0
	}
	if _, err := h.conn.Write(h.request); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	response, err := http.ReadResponse(h.reader, nil)
	if err != nil {
		return fmt.Errorf("response: %w", err)
	}
	size, err := io.Copy(io.Discard, response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return fmt.Errorf("body after %d bytes: %w", size, err)
	}
	if response.StatusCode != http.StatusOK || size != bodySize {
		return fmt.Errorf("answered %s and %d bytes", response.Status, size)
	}
	h.used++
	if response.Close {
		h.hangUp()
	}
	return nil
}

func (h *httpClient) hangUp() {
	if h.conn != nil {
		_ = h.conn.Close() // what was asked for has arrived
		h.conn = nil
	}
}
