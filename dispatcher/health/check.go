package health

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"dispatch/dispatcher/uplink"
)

const (
	// checkTimeout is how long a check waits for a connection.
	checkTimeout = 3 * time.Second
	// minInterval is the least time between the beginnings of two checks of a line. Between those in a row it doubles, up
	// to maxInterval.
	minInterval = time.Second
	maxInterval = 30 * time.Second
	// maxDestinations is how many destinations are tried, one a check.
	maxDestinations = 4
)

// errUncheckable is for a check that has nothing to connect to.
var errUncheckable = errors.New("there is nothing to check it with")

// check has a line checked, soon. m.mu must be held.
func (m *Monitor) check(l *line) {
	if m.closed || l.ctx.Err() != nil {
		return
	}
	if l.checking {
		select {
		case l.hurry <- struct{}{}:
		default: // it hurries already
		}
		return
	}
	l.checking = true
	m.checks.Go(func() { m.checkUntilUp(l) })
}

// patrol has the lines that are up checked with the probes, now and then.
func (m *Monitor) patrol() {
	for tick := time.Tick(maxInterval); ; {
		select {
		case <-m.ctx.Done():
			return
		case <-tick:
		}
		m.mu.Lock()
		for f := range m.lines {
			for _, l := range m.lines[f] {
				if l.State == Up && !l.checking {
					m.check(l)
				}
			}
		}
		m.mu.Unlock()
	}
}

// checkUntilUp checks a line until it is up.
func (m *Monitor) checkUntilUp(l *line) {
	for n := 0; ; n++ {
		select {
		case <-time.After(time.Until(m.checked(l).Add(minInterval))):
		case <-l.ctx.Done():
			return
		}
		if m.checkOnce(l, n) {
			return
		}
		select {
		case <-time.After(min(minInterval<<min(n, 10), maxInterval)):
		case <-l.hurry:
			n = -1 // the times grow anew
		case <-l.ctx.Done():
			return
		}
	}
}

// checked is when the line's last check began.
func (m *Monitor) checked(l *line) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return l.checked
}

// checkOnce makes the nth check of a line in a row, and returns whether it needs no further one.
func (m *Monitor) checkOnce(l *line, n int) (done bool) {
	ctx, cancel := context.WithTimeout(l.ctx, checkTimeout)
	defer cancel()
	began := m.begin(l, cancel)
	err := m.try(ctx, l, n)
	m.log.Debug("checked an uplink", "uplink", l.Uplink.Name(), "family", l.Family.String(), "took", time.Since(began), "error", err)
	return m.conclude(l, err, n, began)
}

func (m *Monitor) begin(l *line, cancel context.CancelFunc) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	l.checked, l.outdated, l.cancel = time.Now(), false, cancel
	return l.checked
}

// outdate ends the check under way, if there is one, for the kernel has changed what it is about. A line's address comes
// before its default route, and a connection begun between the two does not see the route for three seconds: its first
// packet waits for an ARP answer on the line's own network, and Linux repeats none that waits (skb_still_in_host_queue).
// The Monitor's mu must be held.
func (l *line) outdate() {
	if l.checking && l.cancel != nil {
		l.outdated = true
		l.cancel()
	}
}

// try makes the nth check of a line in a row; nil means that it works.
func (m *Monitor) try(ctx context.Context, l *line, n int) error {
	if probes := m.probesFor(l); len(probes) > 0 {
		return probes[n%len(probes)].through(ctx, l.Uplink, l.Family, m.resolve)
	}
	proven, doubtful := m.known(l)
	switch {
	case len(proven) > 0:
		return connects(ctx, l.Uplink, proven[n%len(proven)])
	case doubtful == nil:
		return errUncheckable
	}
	if err := connects(ctx, l.Uplink, doubtful.destination); err != nil {
		return &doubtError{*doubtful, err}
	}
	return nil
}

// probesFor returns the probes to check a line with: where a login is asked for, those that can tell when it is not any more.
func (m *Monitor) probesFor(l *line) []Probe {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.login {
		return slices.DeleteFunc(slices.Clone(m.probes), func(p Probe) bool { return !p.seesLogin() })
	}
	return m.probes
}

// known is what a line can be checked with: what works by others, and, while it is up, what it was last slow to reach.
func (m *Monitor) known(l *line) (proven []netip.AddrPort, doubtful *endpoint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.State == Up && len(l.doubtful) > 0 {
		latest := l.doubtful[0]
		doubtful = &latest
	}
	return m.proven(l), doubtful
}

// doubtError is for a check with a destination that is not known to work, and did not.
type doubtError struct {
	endpoint
	err error
}

func (e *doubtError) Error() string { return e.err.Error() }

func (e *doubtError) Unwrap() error { return e.err }

// connects tells whether the uplink carries a connection to a destination, or its refusal.
func connects(ctx context.Context, u *uplink.Uplink, to netip.AddrPort) error {
	began := time.Now()
	conn, err := u.DialStream(ctx, uplink.To(to))
	switch f := uplink.FailureOf(err); {
	case f == uplink.NoFailure:
	case f.Blame() == uplink.BlameDestination:
		return nil //nolint:nilerr // the refusal came through the line
	default:
		return fmt.Errorf("%s: %w", to, err)
	}
	u.ObserveConnect(time.Since(began))
	return conn.Close()
}

// conclude takes in the outcome of the nth check in a row, and returns whether the line needs no further one.
func (m *Monitor) conclude(l *line, err error, n int, began time.Time) (done bool) {
	m.mu.Lock()
	var after func()
	var doubt *doubtError
	l.login = l.login || !l.outdated && errors.Is(err, errLogin)
	switch {
	case l.ctx.Err() != nil, l.gone:
		done = true
	case l.outdated: // the next one tells
	case l.State == Up && l.worked.After(began) && !l.login:
		done = true // whatever came of it, the line has carried something since
	case err == nil:
		done = true
		l.suspicion = suspicion{}
		after = m.become(l, Up, "")
	case errors.Is(err, errUncheckable) && l.State != Up && l.kernel.routed && began.Sub(l.Since) >= forgotten:
		done = true
		m.log.Debug("nothing to check an uplink with: it is given another chance", "uplink", l.Uplink.Name(), "family", l.Family.String())
		after = m.become(l, Up, "")
	case errors.Is(err, errUncheckable):
		done = l.State == Up
	case l.State == Up && errors.As(err, &doubt):
		// It may be that host's fault; several hosts' it is not.
		l.hold(failure{doubt.endpoint, began, err.Error()})
		if why := m.accusation(indexOf(l.Family), l); why != "" {
			after = m.become(l, Suspect, why)
		} else {
			done = true
		}
	case l.State == Up:
		after = m.become(l, Suspect, err.Error())
	case n > 0:
		after = m.become(l, Down, err.Error())
	}
	if done {
		l.checking = false
		select {
		case <-l.hurry: // it was for this check
		default:
		}
	}
	m.mu.Unlock()
	if after != nil {
		after()
	}
	return done
}
