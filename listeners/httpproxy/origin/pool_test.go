package origin

import (
	"sync"
	"testing"
	"time"

	"dispatch/testdata/loopback"
)

// A link that the origin closes, or on which it says something unasked, is noticed and closed, and not used again.
func TestPoolNotices(t *testing.T) {
	t.Parallel()
	for name, does := range map[string]func(*peer){
		"the end":    func(p *peer) { p.Close() },
		"a poisoner": func(p *peer) { p.send(ok("poison")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			for range 2 {
				var p *peer
				done := make(chan struct{})
				go func() {
					defer close(done)
					p = f.accept()
					p.request()
					p.send(ok("hello"))
				}()
				if got := f.get(); got != "hello" {
					t.Errorf("got %q", got)
				}
				<-done
				if n := f.idle(); n != 1 {
					t.Errorf("%d idle links, want 1", n)
				}
				does(p)
				f.eventually("no link is left", func() bool { return f.idle() == 0 })
			}
		})
	}
}

// The pool holds no more than its bounds, and nothing after its end.
func TestPoolBounds(t *testing.T) {
	t.Parallel()
	f := start(t)
	var clients sync.WaitGroup
	for range maxIdlePerKey + 4 {
		clients.Go(func() { f.get() })
	}
	var peers []*peer
	for range maxIdlePerKey + 4 { // all at once
		p := f.accept()
		p.request()
		peers = append(peers, p)
	}
	for _, p := range peers {
		p.send(ok(""))
	}
	clients.Wait()
	if all := f.idle(); all != maxIdlePerKey {
		t.Errorf("%d idle links, want %d", all, maxIdlePerKey)
	}
	f.transport.Close()
	if all := f.idle(); all != 0 {
		t.Errorf("%d idle links after the end", all)
	}
}

// Links are found by their line, and the one used last comes first; old ones are not for requests that cannot be
// repeated. There is no time in this test but what it sets.
func TestPoolTake(t *testing.T) {
	t.Parallel()
	f := start(t)
	line := loopback.Fleet(t).Uplinks()[0]
	p := newPool(f.transport.log)
	link1, link2, direct := f.link(line), f.link(line), f.link(nil)
	for _, l := range []*link{link1, direct, link2} {
		p.put(l)
	}
	p.mu.Lock()
	link2.since = link2.since.Add(-time.Hour)
	p.mu.Unlock()
	if l := p.take(link1.key, time.Minute); l != nil {
		t.Errorf("an old link was taken")
	}
	if l := p.take(link1.key, 2*time.Hour); l != link2 {
		t.Errorf("not the last link was taken")
	}
	if l := p.take(direct.key, time.Minute); l != direct {
		t.Errorf("another line's link was taken")
	}
	if l := p.take(direct.key, time.Minute); l != nil {
		t.Errorf("a link was taken twice")
	}
	p.discard(link2)

	p.limit = 2 // link1 and one more
	p.put(direct)
	p.put(f.link(nil))
	if p.count != 2 {
		t.Errorf("%d links are kept", p.count)
	}
	p.close()
	late := f.link(nil)
	p.put(late)
	if _, err := late.conn.Write([]byte("x")); err == nil {
		t.Error("a link was kept after the end")
	}
}
