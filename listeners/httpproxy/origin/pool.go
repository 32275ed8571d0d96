package origin

import (
	"errors"
	"log/slog"
	"net"
	"os"
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
	// watchAfter is when a link that became idle begins to be watched for the server's closing it. Requests that
	// follow each other faster do not pay for the watch.
	watchAfter = 50 * time.Millisecond
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
	log     *slog.Logger
	limit   int // maxIdle
	watches sync.WaitGroup

	mu     sync.Mutex
	links  map[key][]*link // the one used last is last
	count  int
	closed bool
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
		watching := l.watching
		p.mu.Unlock()
		// Whatever the server has said unasked would be taken for the response to the next request, whosever that is.
		if (!watching || p.callOff(l)) && l.conn.Quiet() {
			return l
		}
		p.discard(l)
	}
}

// callOff ends the watch and tells whether the link is alive.
func (p *pool) callOff(l *link) bool {
	if err := l.conn.SetReadDeadline(longAgo()); err != nil {
		return false
	}
	alive := <-l.watched
	l.watching = false
	return alive && l.conn.SetReadDeadline(time.Time{}) == nil
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
	l.idle, l.since = true, time.Now()
	if l.timer == nil {
		l.watched = make(chan bool, 1)
		l.timer = time.AfterFunc(watchAfter, func() { p.watch(l) })
	} else {
		l.timer.Reset(watchAfter)
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
	l.idle = false
	l.timer.Stop()
}

// watch waits for the server to close an idle link, or for it to have been idle too long. A server that says
// something without having been asked is not waited for either: that would be taken for the next request's response.
func (p *pool) watch(l *link) {
	p.mu.Lock()
	// The timer may have fired just before a request took the link, and may be late even for the next idling.
	if !l.idle || l.watching {
		p.mu.Unlock()
		return
	}
	l.watching = true
	p.watches.Add(1)
	defer p.watches.Done()
	err := l.conn.SetReadDeadline(l.since.Add(idleTimeout)) // within the lock, for callOff sets another
	p.mu.Unlock()

	n := 0
	if err == nil {
		var unasked [1]byte
		n, err = l.conn.Read(unasked[:])
	}
	p.mu.Lock()
	ours := l.idle
	if ours {
		p.remove(l)
	}
	p.mu.Unlock()
	if ours {
		p.discard(l)
		return
	}
	l.watched <- n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}

// discard closes a link that is of no more use.
func (p *pool) discard(l *link) {
	if err := l.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		p.log.Debug("closing a connection failed", "error", err)
	}
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

// close closes all idle links, waits for their watches, and keeps no link any more.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	for _, l := range p.removeIf(func(*dispatcher.Conn) bool { return true }) {
		p.discard(l)
	}
	p.watches.Wait()
}
