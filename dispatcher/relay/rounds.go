package relay

import "time"

// rounds has a function called from time to time while there is something for it to
// look after. A timer that runs for nothing would wake the processor for nothing.
// Guarded by its owner's mutex.
type rounds struct {
	every time.Duration
	look  func() // calls came first, and next if there is more to look after
	timer *time.Timer
	due   bool
}

// next sees to it that the function is called once, when its time has gone by.
func (r *rounds) next() {
	switch {
	case r.due:
		return
	case r.timer == nil:
		r.timer = time.AfterFunc(r.every, r.look)
	default:
		r.timer.Reset(r.every)
	}
	r.due = true
}

// came notes that the function has been called.
func (r *rounds) came() { r.due = false }
