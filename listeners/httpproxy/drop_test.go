package httpproxy

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"dispatch/dispatcher"
)

// silentOnce answers all requests of its first connection but those from the second on, and all of every other: as
// a server looks whose line has died under a connection that was kept.
func silentOnce(t *testing.T) (o originServer, awaited chan struct{}) {
	t.Helper()
	var connections atomic.Int32
	awaited = make(chan struct{}, 1)
	o = newOrigin(t, func(p *peer) {
		first := connections.Add(1) == 1
		for n := 0; ; n++ {
			req, err := http.ReadRequest(p.br)
			if err != nil {
				return
			}
			_ = req.Body.Close()
			if first && n > 0 {
				awaited <- struct{}{}
				continue
			}
			p.send(ok("hello"))
		}
	})
	return o, awaited
}

func await(t *testing.T, signal <-chan struct{}) {
	t.Helper()
	select {
	case <-signal:
	case <-time.After(10 * time.Second):
		t.Fatal("the server never saw the request on the connection that was kept")
	}
}

func all(*dispatcher.Conn) bool { return true }

// A request that waits on a line that has died is sent again, and its client notices nothing.
func TestDropRepeatsWhatIsAwaited(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	o, awaited := silentOnce(t)
	client := f.client()
	hello := func() {
		t.Helper()
		if resp, body := client.response("GET"); resp.StatusCode != http.StatusOK || body != "hello" {
			t.Fatalf("%s, %q", resp.Status, body)
		}
	}
	client.send(get(o))
	hello()
	f.sessions(1) // the connection is kept now
	client.send(get(o))
	await(t, awaited)
	f.handler.Drop(all)
	hello()
	for _, r := range f.sessions(2) {
		if r.class() != "" {
			t.Errorf("a session ended with %q", r.class())
		}
	}
}

// What may not be repeated fails at once, instead of waiting for ever.
func TestDropEndsWhatMayNotBeRepeated(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	o, awaited := silentOnce(t)
	client := f.client()
	client.send(get(o))
	client.response("GET")
	f.sessions(1) // the connection is kept now
	client.send("POST " + o.url() + "/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab")
	await(t, awaited)
	f.handler.Drop(all)
	if resp, _ := client.response("POST"); resp.StatusCode != http.StatusBadGateway {
		t.Errorf("%s", resp.Status)
	}
}

// A line that is only suspect costs no request that may not be repeated; one that is dead does.
func TestAvoidSparesWhatMayNotBeRepeated(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	o, awaited := silentOnce(t)
	client := f.client()
	client.send(get(o))
	client.response("GET")
	f.sessions(1) // the connection is kept now
	client.send("POST " + o.url() + "/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab")
	await(t, awaited)
	f.handler.Avoid(all, false)
	f.handler.Avoid(all, true) // its body has only just been taken
	time.Sleep(time.Second)
	f.handler.Avoid(all, false)
	if n := len(f.records.with("session closed")); n != 1 {
		t.Errorf("%d sessions have ended, want one", n)
	}
	time.Sleep(2 * time.Second)
	f.handler.Avoid(all, true)
	if resp, _ := client.response("POST"); resp.StatusCode != http.StatusBadGateway {
		t.Errorf("%s", resp.Status)
	}
}

func TestAvoidRepeatsWhatMayBe(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	o, awaited := silentOnce(t)
	client := f.client()
	client.send(get(o))
	client.response("GET")
	f.sessions(1)
	client.send(get(o))
	await(t, awaited)
	f.handler.Avoid(all, false)
	if resp, body := client.response("GET"); resp.StatusCode != http.StatusOK || body != "hello" {
		t.Errorf("%s, %q", resp.Status, body)
	}
}

// Only the connections that are named go.
func TestDropLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	o, connections := counting(t, hello(t))
	client := f.client()
	for n := range 3 {
		client.send(get(o))
		client.response("GET")
		f.sessions(n + 1)
		f.handler.Drop(func(*dispatcher.Conn) bool { return false })
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	f.eventually("a dropped connection is not used again", func() bool {
		f.handler.Drop(all)
		client.send(get(o))
		client.response("GET")
		return connections.Load() == 2
	})
}
