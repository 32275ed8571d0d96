package origin

import (
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"dispatch/dispatcher"
	"dispatch/dispatcher/uplink"
)

const (
	// idleTimeout is how long a link is kept without a request: longer than a page's reader takes to click on, and
	// shorter than home routers remember a flow. Most servers are the first to close.
	idleTimeout = 75 * time.Second
	// lookAtIdleEvery is how soon a link is closed that its server has closed. Until then it is of no use to anybody, and
	// not used, but holds a descriptor.
	lookAtIdleEvery = time.Second
	// maxIdlePerKey is as many as the greediest clients use at once for one host: download managers 16, browsers 6.
	maxIdlePerKey = 16
	// maxIdle bounds the descriptors that are held for requests that may never come.
	maxIdle = 512
)

// key is what links can stand in for each other with: the line they leave by and the host they were opened for.
type key struct {
	uplink *uplink.Uplink // nil: direct, or whichever
	host   string
	port   uint16
	owner  *Owner // whose alone it is; nil: anybody's
}

func keyOf(u *uplink.Uplink, req *dispatcher.Request) key {
	return key{uplink: u, host: strings.ToLower(req.Host), port: req.Port}
}

// ownKeyOf is for a link that only one client may use.
func ownKeyOf(o *Owner, req *dispatcher.Request) key {
	return key{host: strings.ToLower(req.Host), port: req.Port, owner: o}
}

// pool keeps the idle links. A link is in it only while no request uses it.
type pool struct {
	log   *slog.Logger
	limit int // maxIdle

	mu      sync.Mutex
	links   map[key][]*link // the one used last is last
	count   int
	looking bool // the timer runs
	closed  bool
}

func newPool(log *slog.Logger) *pool {
	return &pool{log: log, limit: maxIdle, links: make(map[key][]*link)}
}

// take returns a live link that has not been idle for longer than limit, nil when there is none.
func (p *pool) take(k key, limit time.Duration) *link {
	for {
		p.mu.Lock()
		idle := p.links[k]
		if len(idle) == 0 || time.Since(idle[len(idle)-1].since) > limit {
			p.mu.Unlock()
			return nil
		}
		l := idle[len(idle)-1]
		p.remove(l)
		p.mu.Unlock()
		// Whatever the server has said unasked would be taken for the response to the next request, whosever that is.
		if l.conn.Quiet() {
			return l
		}
		p.discard(l)
	}
}

// put keeps a link for the next request, or closes it when there are enough.
func (p *pool) put(l *link) {
	l.reused = true
	p.mu.Lock()
	if p.closed || len(p.links[l.key]) >= maxIdlePerKey {
		p.mu.Unlock()
		p.discard(l)
		return
	}
	var evicted *link
	if p.count >= p.limit {
		evicted = p.any()
		p.remove(evicted)
	}
	p.links[l.key] = append(p.links[l.key], l)
	p.count++
	l.since = time.Now()
	if !p.looking {
		p.looking = true
		time.AfterFunc(lookAtIdleEvery, p.look)
	}
	p.mu.Unlock()
	if evicted != nil {
		p.discard(evicted)
	}
}

// any returns an idle link: of any key, the one that was used last longest ago. p.mu must be held.
func (p *pool) any() *link {
	for _, links := range p.links {
		return links[0]
	}
	return nil
}

// remove takes an idle link out. p.mu must be held.
func (p *pool) remove(l *link) {
	links := p.links[l.key]
	n := slices.Index(links, l)
	if links = slices.Delete(links, n, n+1); len(links) == 0 {
		delete(p.links, l.key)
	} else {
		p.links[l.key] = links
	}
	p.count--
}

// look closes the links that are of no more use: their server has closed them, or said something unasked, or they have
// been idle too long. One timer serves them all, while there are any.
func (p *pool) look() {
	useless := p.removeIf(func(l *link) bool { return time.Since(l.since) > idleTimeout || !l.conn.Quiet() })
	for _, l := range useless {
		p.discard(l)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.looking = p.count > 0; p.looking {
		time.AfterFunc(lookAtIdleEvery, p.look)
	}
}

// discard closes a link that is of no more use.
func (p *pool) discard(l *link) {
	if err := l.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		p.log.Debug("closing a connection failed", "error", err)
	}
}

// removeIf takes out some of the idle links.
func (p *pool) removeIf(which func(*link) bool) []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	var some []*link
	for _, links := range p.links {
		for _, l := range links {
			if which(l) {
				some = append(some, l)
			}
		}
	}
	for _, l := range some {
		p.remove(l)
	}
	return some
}

// close closes all idle links, and keeps no link any more.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	for _, l := range p.removeIf(func(*link) bool { return true }) {
		p.discard(l)
	}
}
