package httpproxy

import (
	"bytes"
	"runtime"
	"testing"
	"time"

	"dispatch/dispatcher"
)

// TestIdleTunnel waits until no goroutine is left of a tunnel. It is not parallel, for it looks at all goroutines. When
// the handler ends, the tunnel is nevertheless cut at once.
func TestIdleTunnel(t *testing.T) {
	f := start(t, fixtureConfig{})
	ended := make(chan error, 1)
	o := newOrigin(t, func(p *peer) {
		p.expect("x")
		p.send("x")
		_, err := p.rest()
		ended <- err
	})
	client := f.tunnel(o)
	client.send("x")
	client.expect("x")
	stacks := make([]byte, 1<<20)
	gone := func() bool {
		all := stacks[:runtime.Stack(stacks, true)]
		return !bytes.Contains(all, []byte("relay.(*Relay).run")) && !bytes.Contains(all, []byte("http.(*conn).serve"))
	}
	for until := time.Now().Add(patience); !gone(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("the tunnel keeps goroutines")
		}
	}
	if err := f.handler.Close(); err != nil {
		t.Error(err)
	}
	_, err := client.rest()
	wantReset(t, err)
	wantReset(t, <-ended)
	if class := f.session().class(); class != dispatcher.Closed {
		t.Errorf("the record says %q", class)
	}
}
