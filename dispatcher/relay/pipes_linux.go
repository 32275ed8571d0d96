package relay

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxPipes bounds the pipes of the process. A flow holds one only while it
	// moves bytes, or waits for its receiver to take them.
	maxPipes = 32
	// pipeSize is how much a pipe is made to hold, in full pages. (Measured:
	// 512 KiB and 2 MiB both cost more for each byte.)
	pipeSize = 1 << 20
	// minPipeSize is the least that beats a copy. The kernel gives less to
	// a user who has many pipes.
	minPipeSize = 64 << 10
	// userShare is the part of the user's allowance of pipe pages that we take:
	// one in so many.
	userShare = 2
	// pipesKept is how long an unused pipe is kept, at most twice.
	pipesKept = 300 * time.Millisecond
	// pipesRetry is how long we do without after a pipe could not be made.
	pipesRetry = time.Second
)

// pipe is a pipe, empty whenever it is in the pool.
type pipe struct{ r, w int }

// pipePool makes, lends and closes pipes.
type pipePool struct {
	max  int // pipes at once
	size int // bytes that each is made to hold

	mu     sync.Mutex
	asked  bool // max respects the system's limit
	made   int  // pipes in being, lent or not
	free   []*pipe
	unused int // the least number of free ones since the last trim
	trims  rounds
	retry  time.Time // none is made before
}

func (p *pipePool) init() {
	p.max, p.size = maxPipes, pipeSize
	p.trims = rounds{every: pipesKept, look: p.trim}
}

// get lends a pipe, or returns nil if none is to be had.
func (p *pipePool) get() *pipe {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := len(p.free) - 1; last >= 0 {
		lent := p.free[last]
		p.free = p.free[:last]
		p.unused = min(p.unused, last)
		return lent
	}
	if !p.asked {
		p.asked = true
		p.max = min(p.max, allowance(p.size))
	}
	if p.made >= p.max || time.Now().Before(p.retry) {
		return nil
	}
	made := makePipe(p.size)
	if made == nil {
		p.retry = time.Now().Add(pipesRetry)
		return nil
	}
	p.made++
	return made
}

// put takes a pipe back, to lend it again only if it is empty.
func (p *pipePool) put(back *pipe, empty bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !empty {
		p.made--
		back.close()
		return
	}
	p.free = append(p.free, back)
	if !p.trims.due {
		p.unused = 0
		p.trims.next()
	}
}

// trim closes the pipes that were free all the time since it last ran.
func (p *pipePool) trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trims.came()
	for _, old := range p.free[:p.unused] {
		old.close()
	}
	p.made -= p.unused
	p.free = append(p.free[:0], p.free[p.unused:]...)
	p.unused = len(p.free)
	if p.unused > 0 {
		p.trims.next()
	}
}

// allowance returns how many pipes our share of the user's soft limit makes.
// Beyond that limit pipes are too small to be of use, for whatever the user runs.
func allowance(size int) int {
	data, err := os.ReadFile("/proc/sys/fs/pipe-user-pages-soft")
	if err != nil {
		return maxPipes // not to be known: a pipe that comes too small tells
	}
	pages, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pages == 0 {
		return maxPipes // 0 is no limit
	}
	return pages / userShare * os.Getpagesize() / size
}

// makePipe returns nil if the system gives none, or none that is worth having.
func makePipe(size int) *pipe {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil // mostly for want of descriptors; a copy needs none
	}
	made := &pipe{fds[0], fds[1]}
	got, err := unix.FcntlInt(uintptr(made.w), unix.F_SETPIPE_SZ, size)
	if err != nil {
		got, err = unix.FcntlInt(uintptr(made.w), unix.F_GETPIPE_SZ, 0)
	}
	if err != nil || got < min(size, minPipeSize) {
		made.close()
		return nil
	}
	return made
}

// close gives the descriptors back. An error would mean only that they are.
func (p *pipe) close() {
	_ = unix.Close(p.r)
	_ = unix.Close(p.w)
}
