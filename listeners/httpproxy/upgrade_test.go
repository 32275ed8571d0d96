package httpproxy

import (
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"dispatch/dispatcher"
)

func upgradeTo(o originServer, protocol string) string {
	return get(o, "Connection: keep-alive, Upgrade", "Upgrade: "+protocol, "Sec-WebSocket-Key: x")
}

const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nSec-Websocket-Accept: y\r\nUpgrade: websocket\r\n\r\n"

// switchingOrigin switches to what it is asked for, and then echoes.
func switchingOrigin(t *testing.T, protocol, behind string) originServer {
	return newOrigin(t, func(p *peer) {
		head := p.head()
		if !strings.Contains(head, "\r\nUpgrade: "+protocol+"\r\n") || !strings.Contains(head, "\r\nConnection: Upgrade\r\n") {
			t.Errorf("arrived as %q", head)
		}
		p.send(strings.Replace(switching, "websocket", protocol, 1) + behind)
		echo(p)
	})
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"websocket", "miracle/1.0"} {
		f := start(t, fixtureConfig{})
		o := switchingOrigin(t, protocol, "")
		client := f.client()
		client.send(upgradeTo(o, protocol))
		client.expect(strings.Replace(switching, "websocket", protocol, 1))
		client.send("ping")
		client.expect("ping")
		client.must(client.CloseWrite())
		if rest := client.whole(); rest != "" {
			t.Errorf("then came %q", rest)
		}
		r := f.session()
		if r.class() != "" || r.attrs["protocol"].String() != "http" || r.attrs["down"].Int64() <= int64(len("ping")) || r.attrs["up"].Int64() <= int64(len("ping")) {
			t.Errorf("the record says %v", r)
		}
		f.eventually("no client is left", func() bool { return f.clients() == 0 })
	}
}

// An offer to switch whose connection dies before an answer is made again, by another connection, once.
func TestUpgradeIsRepeated(t *testing.T) {
	t.Parallel()
	for deaths, status := range map[int32]string{1: "101", 2: "502"} {
		f := start(t, fixtureConfig{})
		var count atomic.Int32
		o := newOrigin(t, func(p *peer) {
			p.head()
			if count.Add(1) <= deaths {
				p.reset()
				return
			}
			p.send(switching)
			echo(p)
		})
		client := f.client()
		client.send(upgradeTo(o, "websocket"))
		if head := client.head(); !strings.HasPrefix(head, "HTTP/1.1 "+status) {
			t.Errorf("%d connections died: %q", deaths, head)
		}
		if n := count.Load(); n != 2 {
			t.Errorf("%d connections died: %d were made", deaths, n)
		}
		client.end()
	}
}

// What either side sends right behind its head arrives.
func TestUpgradeEarlyBytes(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	for _, size := range []int{1, 100, 3000, 6000, 100_000} {
		o := switchingOrigin(t, "websocket", strings.Repeat("o", size))
		client := f.client()
		go client.send(upgradeTo(o, "websocket") + strings.Repeat("c", size))
		client.expect(switching)
		client.expect(strings.Repeat("o", size))
		client.expect(strings.Repeat("c", size))
		client.end()
	}
}

// Either end may be first, and a reset is one.
func TestUpgradeEndings(t *testing.T) {
	t.Parallel()
	t.Run("the origin ends first", func(t *testing.T) {
		t.Parallel()
		f := start(t, fixtureConfig{})
		got := make(chan string, 1)
		o := newOrigin(t, func(p *peer) {
			p.head()
			p.send(switching + "hello")
			p.must(p.CloseWrite())
			got <- p.whole()
		})
		client := f.client()
		client.send(upgradeTo(o, "websocket"))
		client.expect(switching)
		if all := client.whole(); all != "hello" {
			t.Errorf("read %q", all)
		}
		client.send("bye")
		client.must(client.CloseWrite())
		if all := <-got; all != "bye" {
			t.Errorf("the origin read %q", all)
		}
	})
	t.Run("the origin resets", func(t *testing.T) {
		t.Parallel()
		f := start(t, fixtureConfig{})
		o := newOrigin(t, func(p *peer) {
			p.head()
			p.send(switching)
			p.expect("x")
			p.reset()
		})
		client := f.client()
		client.send(upgradeTo(o, "websocket"))
		client.expect(switching)
		client.send("x")
		_, err := client.rest()
		wantReset(t, err)
		if class := f.session().class(); class != dispatcher.DestinationBroken {
			t.Errorf("the record says %q", class)
		}
	})
	t.Run("the client resets", func(t *testing.T) {
		t.Parallel()
		f := start(t, fixtureConfig{})
		ended := make(chan error, 1)
		o := newOrigin(t, func(p *peer) {
			p.head()
			p.send(switching)
			p.expect("x")
			p.send("y")
			_, err := io.Copy(io.Discard, p.br)
			ended <- err
		})
		client := f.client()
		client.send(upgradeTo(o, "websocket"))
		client.expect(switching)
		client.send("x")
		client.expect("y")
		client.reset()
		wantReset(t, <-ended)
		if class := f.session().class(); class != dispatcher.ClientBroken {
			t.Errorf("the record says %q", class)
		}
	})
}

// An origin that does not switch has answered an ordinary request.
func TestUpgradeDeclined(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	o := newOrigin(t, hello(t))
	client := f.client()
	for range 2 {
		client.send(upgradeTo(o, "websocket"))
		if resp, body := client.response("GET"); body != "hello" || resp.Close {
			t.Errorf("%v %q", resp.Header, body)
		}
	}
	for _, r := range f.sessions(2) {
		if r.class() != "" {
			t.Errorf("the record says %v", r)
		}
	}
}

// Offers that cannot be passed on are left out, and so are switches that nobody offered.
func TestUpgradeNotPassedOn(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	heads := make(chan string, 1)
	o := newOrigin(t, answering(func(head string) string {
		heads <- head
		return ok("")
	}))
	for name, request := range map[string]string{
		"h2c":           get(o, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: x"),
		"no connection": get(o, "Upgrade: websocket"),
		"1.0":           "GET " + o.url() + "/ HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	} {
		client := f.client()
		client.send(request)
		client.response("GET")
		if head := <-heads; strings.Contains(strings.ToLower(head), "upgrade") || strings.Contains(strings.ToLower(head), "settings") {
			t.Errorf("%s: arrived as %q", name, head)
		}
	}
	o = switchingOrigin(t, "other", "")
	client := f.client()
	client.send(upgradeTo(o, "h2c, other"))
	client.head()

	ended := make(chan error, 1)
	o = newOrigin(t, func(p *peer) {
		p.head()
		p.send(switching)
		rest, err := p.rest()
		if rest != "" {
			t.Errorf("then the origin got %q", rest)
		}
		ended <- err
	})
	client = f.client()
	client.send(upgradeTo(o, "miracle"))
	if resp, body := client.response("GET"); resp.StatusCode != 502 {
		t.Errorf("%s %q", resp.Status, body)
	}
	wantReset(t, <-ended)
}
