package httpproxy

import (
	"testing"

	"dispatch/dispatcher"
	"dispatch/testdata/loopback"
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
	loopback.NoGoroutine(t, "relay.(*Relay).run", "http.(*conn).serve")
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
