package relay

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dispatch/testdata/loopback"
)

func (g *goroutines) start(f func()) { g.run(function(f)) }

func (g *goroutines) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.idle)
}

// self is the number of the goroutine, as a stack dump gives it.
func self() string {
	var text [32]byte
	return string(text[:runtime.Stack(text[:], false)])
}

func TestGoroutinesRunAgain(t *testing.T) {
	t.Parallel()
	g := newGoroutines()
	ran := make(map[string]int)
	for range 100 {
		who := make(chan string)
		g.start(func() { who <- self() })
		ran[<-who]++
		loopback.Eventually(t, "the goroutine to wait for more", func() bool { return g.waiting() > 0 })
	}
	if len(ran) > 20 { // one, unless this was held up for 100 ms between two
		t.Errorf("100 short functions took %d goroutines", len(ran))
	}
}

// All that is started runs, once, however many start it at once; few are kept, and none for long.
func TestGoroutinesAreFewAndLeave(t *testing.T) {
	t.Parallel()
	g := newGoroutines()
	var count atomic.Int64
	var starting, running sync.WaitGroup
	for range 8 {
		starting.Go(func() {
			for range 1000 {
				running.Add(1)
				g.start(func() {
					defer running.Done()
					count.Add(1)
					runtime.Gosched()
				})
			}
		})
	}
	starting.Wait()
	running.Wait()
	if count.Load() != 8000 {
		t.Errorf("%d of 8000 functions have run", count.Load())
	}
	if n := g.waiting(); n > maxIdle {
		t.Errorf("%d goroutines wait for more", n)
	}
	loopback.Eventually(t, "all goroutines to have left", func() bool { return g.waiting() == 0 })
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.looks.due {
		t.Error("with nobody left to look at, the timer still runs")
	}
}

// What ends its goroutine, as a test's failure does, takes nobody else with it.
func TestGoroutinesMayEnd(t *testing.T) {
	t.Parallel()
	g := newGoroutines()
	for range 3 {
		ended := make(chan bool)
		g.start(func() {
			defer close(ended)
			runtime.Goexit()
		})
		<-ended
	}
	done := make(chan bool)
	g.start(func() { close(done) })
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing runs any more")
	}
}

// deep uses up about 8 KiB of stack.
//
//go:noinline
func deep(n int) int {
	var frame [1 << 10]byte
	if n > 0 {
		frame[n] = byte(deep(n - 1))
	}
	return int(frame[n]) + n
}

func BenchmarkGo(b *testing.B) {
	for name, start := range map[string]func(func()){"statement": func(f func()) { go f() }, "kept": Go} {
		b.Run(name, func(b *testing.B) {
			done := make(chan bool)
			for b.Loop() {
				start(func() {
					deep(7)
					done <- true
				})
				<-done
			}
		})
	}
}
