package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"dispatch/dispatcher/uplink"
)

// race is the attempts of one request. Its first runner is the caller's own goroutine; further ones only start
// when an attempt is slow.
type race struct {
	d       *Dispatcher
	ctx     context.Context
	cancel  context.CancelCauseFunc
	request *Request
	session *Session
	news    uint32 // the dispatcher's when it began
	rivals  sync.WaitGroup

	began time.Time

	mu         sync.Mutex
	deadline   *time.Timer // of all attempts together; nil before one has been slow, as most requests need none
	generation uint64      // of the View that the pairs are from
	pairs      pairs
	attempts   int
	flying     int  // attempts under way
	stopped    bool // by a failure that is final: no further attempt begins
	over       bool // won, or stopped with no attempt under way
	winner     *Conn
	won        int // the winner's ordinal
	defeats    []defeat
	worst      uplink.Failure // the failure that explains the request's best
	failed     error          // of all attempts, on one line
}

// run makes one attempt after the other until the race is over or no pair is left.
func (r *race) run() {
	var slow *time.Timer
	for {
		p, ok := r.take()
		if !ok {
			return
		}
		after := min(overtakeDelay(p.uplink), r.d.timeout)
		if slow == nil {
			slow = time.AfterFunc(after, r.tooSlow)
		} else {
			slow.Reset(after)
		}
		r.attempt(p, slow)
	}
}

// note adds an error to those of the race. It must hold mu while runners are under way.
func (r *race) note(err error) {
	if r.failed == nil {
		r.failed = err
		return
	}
	r.failed = fmt.Errorf("%w; %w", r.failed, err)
}

// finish makes a timer that goes off late do nothing.
func (r *race) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	if r.deadline != nil {
		r.deadline.Stop()
	}
}

func (r *race) timeUp() { r.cancel(context.DeadlineExceeded) }

func (r *race) timedOut() bool { return errors.Is(context.Cause(r.ctx), context.DeadlineExceeded) }

func (r *race) take() (pair, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.over && !r.stopped && r.ctx.Err() == nil {
		if r.attempts > 0 && time.Since(r.began) >= r.d.timeout { // none of many was slow
			r.timeUp()
			break
		}
		if p, ok := r.pairs.next(); ok {
			r.attempts++
			p.ordinal = r.attempts
			r.flying++
			if r.session != nil {
				r.session.attempts.Add(1)
			}
			return p, true
		}
		if !r.grow() {
			break
		}
	}
	return pair{}, false
}

// grow adds pairs with the lines that have come since the last ones were made, and tells whether there are any. It must
// hold mu, which it gives up meanwhile.
func (r *race) grow() bool {
	view, err := r.d.fleet.View()
	if err != nil || view.Generation == r.generation {
		return false
	}
	r.generation = view.Generation
	r.mu.Unlock()
	route, err := r.d.Route(r.ctx, r.request)
	r.mu.Lock()
	return err == nil && r.pairs.add(route.lanes)
}

// attempt dials one pair, and stops the timer that tells that it is slow.
func (r *race) attempt(p pair, slow *time.Timer) {
	var way uplink.Dialer = uplink.Direct{}
	if p.uplink != nil {
		way = p.uplink
	}
	start := time.Now()
	stream, err := way.DialStream(r.ctx, uplink.Target{Host: r.request.Host, Port: p.destination.Port(), Addr: p.destination.Addr()})
	slow.Stop()
	r.settle(p, stream, err, time.Since(start))
}

// overtakeDelay of direct destinations is short: they are near.
func overtakeDelay(u *uplink.Uplink) time.Duration {
	if u == nil {
		return directOvertake
	}
	return u.OvertakeDelay()
}

const directOvertake = 250 * time.Millisecond

// tooSlow is called by a slow attempt's timer, on a goroutine of its own: a rival runner goes on with the pairs behind it.
// It may come late: after the race.
func (r *race) tooSlow() {
	r.mu.Lock()
	if r.deadline == nil && !r.over {
		r.deadline = time.AfterFunc(r.d.timeout-time.Since(r.began), r.timeUp)
	}
	if r.over || r.stopped || r.pairs.dealtAll || r.ctx.Err() != nil {
		r.mu.Unlock()
		return
	}
	// Within the lock and before the race is over, so that Connect waits for it.
	r.rivals.Add(1)
	r.mu.Unlock()
	defer r.rivals.Done()
	r.run()
}

// settle takes in an attempt's outcome.
func (r *race) settle(p pair, stream Stream, err error, took time.Duration) {
	class := uplink.FailureOf(err)
	if class == uplink.Canceled && r.timedOut() {
		class, err = uplink.TimedOut, context.Cause(r.ctx)
	}
	r.mu.Lock()
	r.flying--
	late := r.over
	if err != nil {
		r.defeats = append(r.defeats, defeat{p.destination, p.ordinal, class})
	}
	switch {
	case err == nil && !late:
		r.over = true
		r.winner, r.won = &Conn{
			stream: stream, uplink: p.uplink, addr: p.destination.Addr(), port: p.destination.Port(), news: r.news,
		}, p.ordinal
	case err != nil && !late:
		r.note(fmt.Errorf("%s through %s: %w", p.destination, lineName(p.uplink), err))
		if r.worst == uplink.NoFailure || telling(class) > telling(r.worst) {
			r.worst = class
		}
		if class.Blame() == uplink.BlameDestination {
			r.pairs.ruleOut(p.destination)
		}
		r.stopped = r.stopped || class.Final()
	}
	if r.stopped && r.flying == 0 {
		r.over = true
	}
	over := r.over
	overtaken := uplink.NotOvertaken
	if class == uplink.Canceled && r.winner != nil && r.winner.uplink != nil && r.winner.uplink != p.uplink {
		overtaken = uplink.OvertakenElsewhere
		if r.winner.destination() == p.destination {
			overtaken = uplink.OvertakenThere
		}
	}
	r.mu.Unlock()
	if p.uplink != nil {
		if err == nil {
			p.uplink.ObserveConnect(took)
		}
		if r.d.observer != nil {
			r.d.observer.Attempted(uplink.Outcome{
				Uplink: p.uplink, Host: r.request.Host, Destination: p.destination, Failure: class, Err: err, Took: took, Overtaken: overtaken,
			})
		}
	}
	if over {
		r.cancel(nil) // after the winner has been told of: the overtaken are told of against it
	}
	if err == nil && late {
		if err := stream.Close(); err != nil {
			r.d.log.Debug("closing an overtaken connection failed", "error", err)
		}
	}
	if err != nil && !late {
		r.d.attemptFailed(r.ctx, p, class, err, took)
	}
}
