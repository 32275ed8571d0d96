package origin

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"dispatch/dispatcher"
	"dispatch/dispatcher/uplink"
	"dispatch/testdata/loopback"
)

// fixture is a Transport and an origin on loopback, which is dialled directly.
type fixture struct {
	t         *testing.T
	transport *Transport
	at        netip.AddrPort
	conns     chan *peer // of the origin, as they come
}

// start makes both. The origin answers nothing by itself.
func start(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, conns: make(chan *peer, 64)}
	f.transport = New(Config{Dispatcher: dispatcher.New(dispatcher.Config{
		Fleet: loopback.Fleet(t),
		Resolver: dispatcher.ResolverFunc(func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}),
	})})
	l := loopback.Listen(t)
	f.at = loopback.AddrOf(l)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.AcceptTCP()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(loopback.Patience))
			f.conns <- &peer{conn, t, bufio.NewReader(conn)}
		}
	}()
	t.Cleanup(func() {
		f.transport.Close()
		l.Close()
		<-done
		for len(f.conns) > 0 {
			(<-f.conns).Close()
		}
	})
	return f
}

// peer is the origin's end of a connection.
type peer struct {
	*net.TCPConn
	t  *testing.T
	br *bufio.Reader
}

// accept returns the origin's next connection; it is closed when the test ends.
func (f *fixture) accept() *peer {
	f.t.Helper()
	select {
	case p := <-f.conns:
		f.t.Cleanup(func() { p.Close() })
		return p
	case <-time.After(loopback.Patience):
		f.t.Error("no connection came")
		runtime.Goexit() // it may be a goroutine of the test's
		return nil
	}
}

func (p *peer) request() {
	p.t.Helper()
	if _, err := http.ReadRequest(p.br); err != nil {
		p.t.Errorf("reading a request: %v", err)
	}
}

func (p *peer) send(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.TCPConn, text); err != nil {
		p.t.Error(err)
	}
}

// ok is a response with a body.
func ok(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// patient is a Client that takes everything.
type patient struct{}

func (patient) Interim(int, http.Header) {}
func (patient) FlushError() error        { return nil }
func (patient) StopReading()             {}
func (patient) Closed() bool             { return false }

// exchange is a GET for the origin's root.
func (f *fixture) exchange() *Exchange {
	f.t.Helper()
	in, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, "http://"+f.at.String()+"/", http.NoBody)
	if err != nil {
		f.t.Fatal(err)
	}
	in.RequestURI = in.URL.String()
	return &Exchange{Client: patient{}, Owner: new(Owner), In: in, Request: f.request()}
}

func (f *fixture) request() dispatcher.Request {
	return dispatcher.Request{Protocol: "http", Client: f.at, Host: "127.0.0.1", Port: f.at.Port()}
}

// get makes an exchange, to its end.
func (f *fixture) get() string {
	f.t.Helper()
	x := f.exchange()
	resp, err := f.transport.Fetch(x)
	if err != nil {
		f.t.Error(err)
		return ""
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Error(err)
	}
	if unread, err := x.Finish(nil); unread || err != nil {
		f.t.Error(unread, err)
	}
	return string(body)
}

// link connects to the origin and takes it for one of line.
func (f *fixture) link(line *uplink.Uplink) *link {
	f.t.Helper()
	req := f.request()
	route, err := f.transport.dispatcher.Route(f.t.Context(), &req)
	if err != nil {
		f.t.Fatal(err)
	}
	conn, err := f.transport.dispatcher.Connect(f.t.Context(), route, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	return &link{conn: conn, key: keyOf(line, &req), buffers: &f.transport.buffers}
}

// idle is the number of idle links.
func (f *fixture) idle() int {
	f.t.Helper()
	p := f.transport.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	all := 0
	for _, links := range p.links {
		all += len(links)
	}
	if all != p.count {
		f.t.Errorf("%d links, counted as %d", all, p.count)
	}
	return all
}

func (f *fixture) eventually(what string, ok func() bool) {
	f.t.Helper()
	loopback.Eventually(f.t, what, ok)
}
