package relay

import (
	"slices"
	"sync"
	"time"
)

const (
	// maxIdle bounds the goroutines that wait for more to do, and with them
	// their stacks, of some 8 KiB each.
	maxIdle = 64
	// idleFor is the time between two looks at which of them are of use. Each is
	// kept for one to two of it.
	idleFor = 100 * time.Millisecond
)

// goroutines are kept for a moment after what they have run, for whoever comes
// next. Those of a short session live for milliseconds and call deeply: a new
// one has its stack grown and copied several times, which was a tenth of what a
// connection cost. The zero value is ready to use.
type goroutines struct {
	mu      sync.Mutex
	idle    []chan func() // whoever was busy last comes last, and is taken first
	spare   int           // how many of them have not been needed since the last look
	looking bool          // the timer runs
}

var kept goroutines

// Go is the statement go f(), on a goroutine that may have run something else
// before. It is for what ends soon, or has called deeply by then.
func Go(f func()) { kept.run(f) }

func (g *goroutines) run(f func()) {
	g.mu.Lock()
	last := len(g.idle) - 1
	if last < 0 {
		g.mu.Unlock()
		go g.work(make(chan func(), 1), f)
		return
	}
	next := g.idle[last]
	g.idle[last] = nil
	g.idle = g.idle[:last]
	g.spare = min(g.spare, last)
	g.mu.Unlock()
	next <- f
}

func (g *goroutines) work(next chan func(), f func()) {
	for f != nil {
		f()
		if !g.rest(next) {
			return
		}
		f = <-next // nil when there is no more
	}
}

// rest reports whether the goroutine is to wait for more.
func (g *goroutines) rest(next chan func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.idle) >= maxIdle {
		return false
	}
	g.idle = append(g.idle, next)
	if !g.looking {
		g.looking = true
		time.AfterFunc(idleFor, g.look)
	}
	return true
}

// look sends those away that nobody has needed since it last came by.
func (g *goroutines) look() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, next := range g.idle[:g.spare] {
		close(next)
	}
	g.idle = slices.Delete(g.idle, 0, g.spare)
	g.spare = len(g.idle)
	if g.looking = g.spare > 0; g.looking {
		time.AfterFunc(idleFor, g.look)
	}
}
