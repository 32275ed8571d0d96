package health

import (
	"fmt"
	"net/netip"
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
}

type failure struct {
	destination netip.AddrPort
	at          time.Time
	why         string
}

// Attempted takes in the outcome of an attempt.
func (m *Monitor) Attempted(o uplink.Outcome) {
	for _, after := range m.attempted(o) {
		after()
	}
}

func (m *Monitor) attempted(o uplink.Outcome) (after []func()) {
	if o.Uplink == nil || o.Failure == uplink.Canceled && !o.Overtaken {
		return nil
	}
	f := indexOf(uplink.FamilyOf(o.Destination.Addr()))
	m.mu.Lock()
	defer m.mu.Unlock()
	l := &m.lines[f][o.Uplink.Number]
	switch {
	case o.Failure == uplink.NoFailure:
		return m.connected(f, l, o)
	case o.Failure.Blame() == uplink.BlameDestination:
		// The line carried the answer.
		return m.alive(l)
	case o.Failure == uplink.LineUnusable:
		return m.suspect(l, "it cannot be bound: "+o.Err.Error())
	case o.Overtaken:
		l.overtaken++
		if l.overtaken >= overtakenInARow {
			return m.suspect(l, fmt.Sprintf("%d connections in a row were slow, and reached their destinations by other lines", l.overtaken))
		}
		// It may be dead or slow: a check tells.
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
	for n := range m.lines[f] {
		other := &m.lines[f][n]
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
	why := fmt.Sprintf("%s: %s", o.Destination, o.Failure)
	kept := l.failures[:0]
	for _, x := range l.failures {
		if x.destination != o.Destination && now.Sub(x.at) < forgotten {
			kept = append(kept, x)
		}
	}
	if len(kept) == maxSuspicions {
		kept = append(kept[:0], kept[1:]...)
	}
	kept = append(kept, failure{o.Destination, now, why})
	l.failures = kept
	switch {
	case m.reachedByOthers(f, l, o.Destination, now.Add(-o.Took)):
		return m.suspect(l, why)
	case len(l.failures) >= 2:
		return m.suspect(l, fmt.Sprintf("%d destinations in a row could not be reached, the last one %s", len(l.failures), why))
	}
	return nil
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
	for n := range m.lines[f] {
		if o := &m.lines[f][n]; o != l && o.recent.since(d, since) {
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
	m.check(&m.lines[indexOf(f)][u.Number])
}
