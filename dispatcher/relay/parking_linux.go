package relay

import (
	"errors"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// sweepEvery is the time between two looks at who is idle. A flow is parked after
// one to two of it without a byte. (Less saves no more memory to speak of; and
// taking a flow up again costs about as much as two round trips of a byte.)
const sweepEvery = time.Second

// tidyAfter is how many goroutines have to have ended before it is worth while to give
// back their stacks, and what else is left of them. The runtime keeps both until it
// collects garbage, which it does every other minute where nothing is allocated.
const tidyAfter = 256

// longAgo as a deadline ends a wait at once.
var longAgo = time.Unix(1, 0)

// What a parked flow is woken by: everything that a read could bring; and, after
// the FIN of its source, only what the kernel reports unasked, a reset.
const (
	awaitData  = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT
	awaitReset = unix.EPOLLONESHOT
)

// parkingLot ends the goroutines of idle flows, which cost more than all else that
// an idle session needs, and watches their sources with an epoll instance of its
// own. It has a timer only while flows are awake, and a goroutine and a descriptor
// only while some are parked.
//
// An event of epoll may come late: for a flow that was taken up meanwhile, or is
// parked once more. So each time that a flow is parked has a number, which its event
// bears, and which is forgotten when the flow is taken up.
type parkingLot struct {
	mu      sync.Mutex
	awake   *flow  // list of those that a goroutine carries
	sweeps  rounds // while there are any
	stirred bool   // somebody woke since the last sweep
	ended   int    // goroutines, since their memory was given back
	parked  map[uint64]*flow
	last    uint64 // number given
	watcher *watcher
}

// parking is where a flow stands with the lot. Guarded by the lot's mu.
type parking struct {
	prev, next *flow  // in the list of those awake
	seen       int64  // bytes moved when it was last looked at; -1: never looked at
	number     uint64 // of this time that it is parked; 0: it is not
	asked      bool   // a deadline in the past tells it to park
	hurried    bool   // the session has failed, and the deadlines are not the lot's
}

func (l *parkingLot) init() {
	l.sweeps = rounds{every: sweepEvery, look: l.sweep}
	l.parked = make(map[uint64]*flow)
}

// enter notes flows that goroutines are about to carry.
func (l *parkingLot) enter(flows ...*flow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range flows {
		l.link(f)
	}
}

// leave forgets a flow that has ended.
func (l *parkingLot) leave(f *flow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unlink(f)
}

// link notes that a goroutine carries f. The caller must hold l.mu.
func (l *parkingLot) link(f *flow) {
	if f.src.raw == nil {
		return // cannot be waited for but by reading
	}
	f.seen = -1
	l.stirred = true
	if f.next = l.awake; f.next != nil {
		f.next.prev = f
	}
	l.awake = f
	l.sweeps.next()
}

// unlink notes that none does any more. The caller must hold l.mu.
func (l *parkingLot) unlink(f *flow) {
	l.ended++
	if f.prev != nil {
		f.prev.next = f.next
	} else if l.awake == f {
		l.awake = f.next
	}
	if f.next != nil {
		f.next.prev = f.prev
	}
	f.prev, f.next = nil, nil
}

// sweep asks those to park that have moved nothing since it last came by. It ends those that could not, because they
// wait for their receiver, and whose client has broken its connection: nobody else would notice.
func (l *parkingLot) sweep() {
	for _, f := range l.look() {
		f.relay.brokenBehind(f)
	}
}

// look returns flows that are to be ended.
func (l *parkingLot) look() (orphans []*flow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweeps.came()
	for f := l.awake; f != nil; f = f.next {
		moved := f.moved.Load()
		switch {
		case moved != f.seen || f.hurried:
		case !f.asked:
			// An error means that it is closed, which its goroutine sees by itself.
			f.asked = f.src.stream.SetReadDeadline(longAgo) == nil
		case f.from == Client && f.src.isBroken():
			orphans = append(orphans, f)
		}
		f.seen = moved
	}
	if l.awake != nil || l.stirred {
		l.stirred = false
		l.sweeps.next()
		return orphans
	}
	// All is quiet: nobody has to wait for this.
	if l.ended >= tidyAfter {
		l.ended = 0
		go debug.FreeOSMemory()
	}
	return orphans
}

// isBroken tells whether the kernel knows no peer of the connection any more, while it is open on our side.
func (e *end) isBroken() (broken bool) {
	err := e.raw.Control(func(fd uintptr) { broken = !hasPeer(int(fd)) })
	return err == nil && broken
}

// brokenBehind ends the session because the source of f is gone while f waits for its receiver. The receiver's side
// is not told of what had been sent before: it has not taken it for a while, and may never.
func (r *Relay) brokenBehind(f *flow) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.ending || r.other(f).ending {
		return // it is gone as it should be, or the session is ending anyway
	}
	r.fail(f.readError(errReset))
	if f.dst.stream.SetWriteDeadline(longAgo) != nil {
		f.dst.reset()
	}
}

// parkResult is what came of asking to be parked.
type parkResult int

const (
	failed   parkResult = iota // the error means what it says
	retry                      // wait again
	isParked                   // end the goroutine; another will carry on
)

// park is called by a flow's goroutine when a wait has failed, and parks the flow if that
// was the lot's doing.
func (l *parkingLot) park(f *flow, err error, events uint32) parkResult {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return failed
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !f.asked {
		return failed
	}
	f.asked = false
	if f.hurried {
		return retry // the deadline of the hurry is in force
	}
	if f.src.stream.SetReadDeadline(time.Time{}) != nil || !l.add(f, events) {
		return retry
	}
	l.unlink(f)
	return isParked
}

// hurry sets a deadline for what f still reads.
func (l *parkingLot) hurry(f *flow, by time.Time) error {
	if f.src.raw == nil {
		return f.src.stream.SetReadDeadline(by)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f.hurried = true
	err := f.src.stream.SetReadDeadline(by)
	l.takeUp(f)
	return err
}

// wake has goroutines carry flows again that are parked.
func (l *parkingLot) wake(flows ...*flow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range flows {
		l.takeUp(f)
	}
}

// add begins to watch the source of f, and reports whether that could be done. What had
// come before is noticed, too. The caller must hold l.mu.
func (l *parkingLot) add(f *flow, events uint32) bool {
	if l.watcher == nil {
		if l.watcher = newWatcher(); l.watcher == nil {
			return false
		}
		go l.watch(l.watcher)
	}
	l.last++
	event := unix.EpollEvent{Events: events, Fd: int32(l.last), Pad: int32(l.last >> 32)}
	if l.watcher.control(f, unix.EPOLL_CTL_ADD, &event) != nil {
		l.closeUnused()
		return false
	}
	f.number = l.last
	l.parked[f.number] = f
	return true
}

// takeUp has a goroutine carry f again, if it is parked. The caller must hold l.mu.
func (l *parkingLot) takeUp(f *flow) {
	if f.number == 0 {
		return
	}
	// An error means that the source is closed: then the kernel has forgotten it.
	_ = l.watcher.control(f, unix.EPOLL_CTL_DEL, nil)
	delete(l.parked, f.number)
	f.number = 0
	l.closeUnused()
	l.link(f)
	f.relay.carry(f)
}

// closeUnused ends the watch over nobody. The caller must hold l.mu.
func (l *parkingLot) closeUnused() {
	if len(l.parked) == 0 {
		l.watcher.close()
		l.watcher = nil
	}
}

// watch takes up those whose sources have something to read, or have ended.
func (l *parkingLot) watch(w *watcher) {
	var events [64]unix.EpollEvent
	for {
		n := w.wait(events[:])
		if n == 0 {
			return
		}
		l.mu.Lock()
		for _, event := range events[:n] {
			// It may have been taken up meanwhile, and even be parked again.
			if f := l.parked[uint64(uint32(event.Fd))|uint64(uint32(event.Pad))<<32]; f != nil {
				l.takeUp(f)
			}
		}
		l.mu.Unlock()
	}
}
