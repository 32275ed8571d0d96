package httpproxy

import (
	"sync"
	"time"

	"dispatch/dispatcher"
)

// Drop is for connections whose line does not work any more: it closes those to origins that are kept for further
// requests, and ends the waiting on those from which no response has come, so that requests which may be repeated are
// sent by another line.
func (h *Handler) Drop(which func(*dispatcher.Conn) bool) {
	for _, l := range h.pool.removeIf(which) {
		h.pool.discard(l)
	}
	h.awaited.giveUp(which)
}

// removeIf takes out the idle links whose connections are named.
func (p *pool) removeIf(which func(*dispatcher.Conn) bool) []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	var named []*link
	for _, links := range p.links {
		for _, l := range links {
			if which(l.conn) {
				named = append(named, l)
			}
		}
	}
	for _, l := range named {
		p.remove(l)
	}
	return named
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

func (a *awaited) add(l *link) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.links[l] = struct{}{}
	l.awaited, l.doubted = time.Now(), false
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
		if !l.doubted && time.Since(l.awaited) >= doubtAfter {
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

// giveUp ends the waiting on the links whose connections are named.
func (a *awaited) giveUp(which func(*dispatcher.Conn) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for l := range a.links {
		if which(l.conn) {
			l.givenUp.Store(true)
			l.interrupt()
		}
	}
}
