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
// connection cost.
type goroutines struct {
	mu    sync.Mutex
	idle  []chan task // whoever was busy last comes last, and is taken first
	spare int         // how many of them have not been needed since the last look
	looks rounds
}

// task is what a goroutine runs.
type task interface{ run() }

type function func()

func (f function) run() { f() }

// kept are those of the process, for whoever needs one: they are as alike as those that
// the runtime keeps, and hold nothing of anybody's.
var kept = newGoroutines()

func newGoroutines() *goroutines {
	g := new(goroutines)
	g.looks = rounds{every: idleFor, look: g.look}
	return g
}

// Go is the statement go f(), on a goroutine that may have run something else
// before. It is for what ends soon, or has called deeply by then.
func Go(f func()) { kept.run(function(f)) }

func (g *goroutines) run(t task) {
	g.mu.Lock()
	last := len(g.idle) - 1
	if last < 0 {
		g.mu.Unlock()
		go g.work(make(chan task, 1), t)
		return
	}
	next := g.idle[last]
	g.idle[last] = nil
	g.idle = g.idle[:last]
	g.spare = min(g.spare, last)
	g.mu.Unlock()
	next <- t
}

func (g *goroutines) work(next chan task, t task) {
	for t != nil {
		t.run()
		if !g.rest(next) {
			return
		}
		t = <-next // nil when there is no more
	}
}

// rest reports whether the goroutine is to wait for more.
func (g *goroutines) rest(next chan task) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.idle) >= maxIdle {
		return false
	}
	g.idle = append(g.idle, next)
	g.looks.next()
	return true
}

// look sends those away that nobody has needed since it last came by.
func (g *goroutines) look() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.looks.came()
	for _, next := range g.idle[:g.spare] {
		close(next)
	}
	g.idle = slices.Delete(g.idle, 0, g.spare)
	g.spare = len(g.idle)
	if g.spare > 0 {
		g.looks.next()
	}
}
