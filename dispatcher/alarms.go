package dispatcher

import (
	"sync"
	"time"
)

// alarmTick is how late an alarm may go off.
const alarmTick = 20 * time.Millisecond

// alarms calls functions after a time. One timer of the runtime serves them all, and ticks only while there are any:
// a timer for each attempt, the nearest of all when it is set, would wake a thread out of its wait for the network
// each time. The zero value is ready to use.
type alarms struct {
	mu     sync.Mutex
	set    []*alarm
	timer  *time.Timer // of tick
	ticks  bool        // the timer is set
	unused bool        // nothing was set since the last tick
}

// alarm is one of them. It is reused by setting it again when it has gone off or was cleared.
type alarm struct {
	at    time.Time
	ring  func()
	place int // in set, counted from 1; 0: not set
}

// after makes ring be called, on a goroutine of its own, when d has gone by, or up to alarmTick later.
func (a *alarms) after(d time.Duration, one *alarm, ring func()) {
	one.at, one.ring = time.Now().Add(d), ring
	a.mu.Lock()
	defer a.mu.Unlock()
	a.set = append(a.set, one)
	one.place = len(a.set)
	a.unused = false
	switch {
	case a.ticks:
	case a.timer == nil:
		a.ticks, a.timer = true, time.AfterFunc(alarmTick, a.tick)
	default:
		a.ticks = true
		a.timer.Reset(alarmTick)
	}
}

// clear keeps an alarm from going off, if it has not yet.
func (a *alarms) clear(one *alarm) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if one.place > 0 {
		a.remove(one)
	}
}

// remove must hold mu.
func (a *alarms) remove(one *alarm) {
	last := len(a.set) - 1
	moved := a.set[last]
	moved.place = one.place
	a.set[one.place-1] = moved
	a.set[last] = nil
	a.set = a.set[:last]
	one.place = 0
}

func (a *alarms) tick() {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	for n := len(a.set) - 1; n >= 0; n-- { // backwards, for remove moves the last one
		if one := a.set[n]; !now.Before(one.at) {
			a.remove(one)
			go one.ring()
		}
	}
	// It goes on for one tick without need: most likely the next alarm is set within it.
	if a.ticks = len(a.set) > 0 || !a.unused; a.ticks {
		a.timer.Reset(alarmTick)
	}
	a.unused = true
}
