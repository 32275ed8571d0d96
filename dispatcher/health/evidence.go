package health

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"dispatch/dispatcher/uplink"
)

const (
	// together is how long after a failed attempt another line's success with the same destination still speaks
	// against the failed one's line: as long as the attempts of one request go on, about.
	together = 5 * time.Second
	// forgotten is when a failure says nothing any more.
	forgotten = time.Minute
	// overtakenInARow is how many attempts in a row must have been overtaken for that to be held against the line:
	// a line that is merely slow is overtaken too, until its connect times are known.
	overtakenInARow = 3
	// maxSuspicions bounds what is kept of a line's failures.
	maxSuspicions = 8
)

// suspicion is what speaks against a line since it last connected.
type suspicion struct {
	failures  []failure // with different destinations
	overtaken int       // attempts in a row
	// doubtful are destinations it was slow to reach, of hosts that another line then reached at another address; the
	// latest first.
	doubtful []endpoint
}

type failure struct {
	endpoint
	at  time.Time
	why string
}

// endpoint is one of a host's destinations.
type endpoint struct {
	host        string
	destination netip.AddrPort
}

// Attempted takes in the outcome of an attempt.
func (m *Monitor) Attempted(o uplink.Outcome) {
	for _, after := range m.attempted(o) {
		after()
	}
}

// attempted, and what it calls, holds m.mu, and returns what is to be done without.
func (m *Monitor) attempted(o uplink.Outcome) (after []func()) {
	if o.Uplink == nil || o.Failure == uplink.Canceled && o.Overtaken == uplink.NotOvertaken {
		return nil
	}
	f := indexOf(uplink.FamilyOf(o.Destination.Addr()))
	m.mu.Lock()
	defer m.mu.Unlock()
	l := lineOf(m.lines[f], o.Uplink)
	switch {
	case l == nil: // it is of the fleet no more, or not yet
		return nil
	case l.login && (o.Failure == uplink.NoFailure || o.Failure.Blame() == uplink.BlameDestination):
		return nil // whoever asks for the login answered; only a probe tells when that is over
	case o.Failure == uplink.NoFailure:
		return m.connected(f, l, o)
	case o.Failure.Blame() == uplink.BlameDestination:
		// The line carried the answer.
		return m.alive(l)
	case o.Failure == uplink.LineUnusable:
		return m.suspect(l, "it cannot be bound: "+o.Err.Error())
	case o.Overtaken == uplink.OvertakenThere:
		l.overtaken++
		if l.overtaken >= overtakenInARow {
			return m.suspect(l, fmt.Sprintf("%d connections in a row were slow, and reached their destinations by other lines", l.overtaken))
		}
		// It may be dead or slow: a check tells.
		m.check(l)
		return nil
	case o.Overtaken == uplink.OvertakenElsewhere:
		// It may be the line, or that address of the host, or the family: a check tells.
		l.doubt(endpoint{o.Host, o.Destination})
		m.check(l)
		return nil
	case o.Failure.Blame() == uplink.BlameUplink:
		return m.failed(f, l, o)
	}
	return nil
}

// connected holds a success against the lines that failed with the same destination.
func (m *Monitor) connected(f int, l *line, o uplink.Outcome) []func() {
	now := time.Now()
	after := m.alive(l)
	l.recent.add(o.Destination, now)
	for _, other := range m.lines[f] {
		if other == l {
			continue
		}
		for _, x := range other.failures {
			if x.destination == o.Destination && now.Sub(x.at) < together {
				after = append(after, m.suspect(other, x.why)...)
			}
		}
	}
	return after
}

// alive takes in that the line carried something.
func (m *Monitor) alive(l *line) []func() {
	l.suspicion, l.worked = suspicion{failures: l.failures[:0]}, time.Now()
	if l.State == Up || l.gone {
		return nil
	}
	return []func(){m.become(l, Up, "")}
}

// failed takes in that a line did not reach a destination.
func (m *Monitor) failed(f int, l *line, o uplink.Outcome) []func() {
	now := time.Now()
	began := now.Add(-o.Took)
	why := fmt.Sprintf("%s: %s", o.Destination, o.Failure)
	byOthers := m.reachedByOthers(f, l, o.Destination, began)
	if !byOthers && l.worked.After(began) {
		return nil // meanwhile it has carried something else
	}
	l.hold(failure{endpoint{o.Host, o.Destination}, now, why})
	if byOthers {
		return m.suspect(l, why)
	}
	if all := m.accusation(f, l); all != "" {
		return m.suspect(l, all)
	}
	return nil
}

// hold keeps a failure against the line.
func (l *line) hold(f failure) {
	l.failures = slices.DeleteFunc(l.failures, func(x failure) bool {
		return x.destination == f.destination || f.at.Sub(x.at) >= forgotten
	})
	if len(l.failures) == maxSuspicions {
		l.failures = slices.Delete(l.failures, 0, 1)
	}
	l.failures = append(l.failures, f)
}

// accusation says what the failures that are held against the line amount to, nothing while they are one host's: several
// of its addresses or ports may all be that host's fault. So may be what failed by another line, too.
func (m *Monitor) accusation(f int, l *line) string {
	hosts := make(map[string]struct{})
	for _, x := range l.failures {
		if !m.failedByOthers(f, l, x) {
			hosts[x.host] = struct{}{}
		}
	}
	if len(hosts) < 2 {
		return ""
	}
	return fmt.Sprintf("%d destinations in a row could not be reached, the last one %s", len(hosts), l.failures[len(l.failures)-1].why)
}

// failedByOthers tells whether a failure with the same destination is held against another line.
func (m *Monitor) failedByOthers(f int, l *line, by failure) bool {
	alike := func(x failure) bool { return x.destination == by.destination && by.at.Sub(x.at).Abs() < forgotten }
	for _, o := range m.lines[f] {
		if o != l && slices.ContainsFunc(o.failures, alike) {
			return true
		}
	}
	return false
}

// doubt keeps a destination that the line was slow to reach.
func (l *line) doubt(d endpoint) {
	l.doubtful = slices.DeleteFunc(l.doubtful, func(x endpoint) bool { return x.host == d.host })
	l.doubtful = slices.Insert(l.doubtful, 0, d)
	l.doubtful = l.doubtful[:min(len(l.doubtful), maxDestinations)]
}

// suspect makes a line that was up suspect, and has it checked.
func (m *Monitor) suspect(l *line, why string) (after []func()) {
	if l.gone {
		return nil
	}
	if l.State == Up {
		after = append(after, m.become(l, Suspect, why))
	}
	m.check(l)
	return after
}

// reachedByOthers tells whether another line connected to a destination since then.
func (m *Monitor) reachedByOthers(f int, l *line, d netip.AddrPort, since time.Time) bool {
	for _, o := range m.lines[f] {
		if o != l && o.recent.since(d, since) {
			return true
		}
	}
	return false
}

// Doubted takes in that a connection which an uplink has carried is silent for longer than expected. That may be its
// destination's doing; a check tells.
func (m *Monitor) Doubted(u *uplink.Uplink, f uplink.Family) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := lineOf(m.lines[indexOf(f)], u); l != nil {
		m.check(l)
	}
}
