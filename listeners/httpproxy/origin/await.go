package origin

import (
	"sync"
	"time"

	"dispatch/dispatcher"
)

// Drop is for connections that are dead: it closes those to origins that are kept for further requests, and ends the
// waiting on those from which no response's head has come; requests that may be repeated are sent by another line.
func (t *Transport) Drop(which func(*dispatcher.Conn) bool) {
	t.giveUp(which, func(l *link) { l.giveUp(false) })
}

// Avoid is for connections whose line seems not to work, or has been found not to (dead). It does the same as Drop, but
// spares requests which may not be repeated, or not once more: those on a line that may be alive after all, and those whose
// body is still being taken.
func (t *Transport) Avoid(which func(*dispatcher.Conn) bool, dead bool) {
	t.giveUp(which, func(l *link) {
		switch {
		case dead && (l.repeats || time.Since(time.Unix(0, l.sent.Load())) > stillSending):
			l.giveUp(false)
		case l.repeats && !l.last:
			l.giveUp(true)
		}
	})
}

// stillSending is how long after its last progress a request is taken to be on its way.
const stillSending = 2 * time.Second

// CloseIdle closes the connections that are kept for further requests: for those of a line that is none any more.
func (t *Transport) CloseIdle(which func(*dispatcher.Conn) bool) {
	for _, l := range t.pool.removeIf(func(l *link) bool { return which(l.conn) }) {
		t.pool.discard(l)
	}
}

func (t *Transport) giveUp(which func(*dispatcher.Conn) bool, end func(*link)) {
	t.CloseIdle(which)
	t.awaited.each(func(l *link) {
		if which(l.conn) {
			end(l)
		}
	})
}

const (
	// doubtAfter is how long a response may take before its line is doubted. Slow origins are no reason to end
	// anything; a line that has died in silence shows in no other way on a connection that is kept alive.
	doubtAfter = time.Second
	lookEvery  = doubtAfter / 4
)

// awaited is the links from which a response's head is awaited.
type awaited struct {
	dispatcher *dispatcher.Dispatcher

	mu      sync.Mutex
	links   map[*link]struct{}
	looking bool
}

func (a *awaited) init(d *dispatcher.Dispatcher) {
	a.dispatcher, a.links = d, make(map[*link]struct{})
}

// add takes in a link with a request that may be repeated, or not, or not once more.
func (a *awaited) add(l *link, repeats, last bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.links[l] = struct{}{}
	l.asked, l.doubted, l.repeats, l.last = time.Now(), false, repeats, last
	if !a.looking {
		a.looking = true
		time.AfterFunc(lookEvery, a.look)
	}
}

func (a *awaited) remove(l *link) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.links, l)
}

// look finds those that take long. One timer serves them all, while there are any.
func (a *awaited) look() {
	var doubtful []*dispatcher.Conn
	a.mu.Lock()
	for l := range a.links {
		if !l.doubted && time.Since(l.asked) >= doubtAfter {
			l.doubted = true
			doubtful = append(doubtful, l.conn)
		}
	}
	if a.looking = len(a.links) > 0; a.looking {
		time.AfterFunc(lookEvery, a.look)
	}
	a.mu.Unlock()
	for _, c := range doubtful {
		a.dispatcher.Doubt(c)
	}
}

// each calls f for all links. None of them is done with before f returns.
func (a *awaited) each(f func(*link)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for l := range a.links {
		f(l)
	}
}
