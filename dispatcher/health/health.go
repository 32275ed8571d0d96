// Package health turns what comes of attempts, and what the kernel tells of interfaces, into the state of each uplink:
// up, suspect or down, for each address family.
//
// An uplink is suspect when something speaks against it that speaks for no destination's fault: two destinations could
// not be reached through it in a row, or one that another uplink reached at the same time. New connections avoid an
// uplink that is not up, as long as there is another. Whether it has recovered is found out by connecting through it to
// destinations that lately worked through another uplink, or to probes that the user named, and to nothing else.
package health

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"dispatch/dispatcher/uplink"
)

// State is what is known of an uplink in one family.
type State uint8

// The states. Suspect and Down are avoided alike; Down has been confirmed, by a check or by the kernel.
const (
	Up State = iota
	Suspect
	Down
)

// String returns "up", "suspect" or "down".
func (s State) String() string { return [...]string{"up", "suspect", "down"}[s] }

// Status is an uplink's state in one family.
type Status struct {
	Uplink *uplink.Uplink
	Family uplink.Family // one
	State  State
	// Reason says why it is not up; empty when it is.
	Reason string
	// Since is when it entered the state.
	Since time.Time
}

// Config is what a Monitor is made of.
type Config struct {
	// Uplinks are the lines to watch over until Kernel tells of others.
	Uplinks []*uplink.Uplink
	// Logger takes each change of state; nil discards.
	Logger *slog.Logger
}

// Monitor keeps the uplinks' states. Safe for concurrent use.
type Monitor struct {
	probes  []Probe
	resolve Resolve
	log     *slog.Logger
	changed func(Status)

	bands [2]atomic.Pointer[[]uplink.IDs] // by family: the lines that are up, and the others

	ctx    context.Context // of the checks
	cancel context.CancelFunc
	checks sync.WaitGroup

	mu     sync.Mutex
	closed bool
	view   *uplink.View // the kernel's last; nil before the first
	lines  [2][]*line   // by family, in the user's order
}

// line is one uplink in one family, under the Monitor's lock.
type line struct {
	Status
	suspicion
	ctx      context.Context // of its checks
	remove   context.CancelFunc
	recent   recent
	kernel   kernelView
	gone     bool               // the kernel says it cannot be used
	login    bool               // a page that asks for a login answers in everybody's place: what connects proves nothing
	worked   time.Time          // when it last carried something
	checked  time.Time          // when its last check began
	checking bool               // a goroutine checks it
	cancel   context.CancelFunc // ends its last check
	outdated bool               // that check was ended so
	hurry    chan struct{}      // makes that goroutine check soon; of capacity 1
}

// families are the indices of what is kept by family.
var families = [2]uplink.Family{uplink.IPv4, uplink.IPv6}

func indexOf(f uplink.Family) int {
	if f == uplink.IPv6 {
		return 1
	}
	return 0
}

// New makes a Monitor that takes all uplinks for up, but those that the kernel says cannot be used. It says from now on
// which are up; it learns, and makes checks, when it has been started. The caller closes it.
func New(c Config) *Monitor {
	m := &Monitor{log: c.Logger}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.enlist(c.Uplinks)
	return m
}

// Start is called once, before the Monitor is told anything. Probes are the user's own targets for checks, each asked when
// the one before has failed, those of HTTP first; with none, checks go to destinations that lately worked. Resolve turns
// the probes' host names into addresses, and is needed with probes only: it may itself ask through lines by what the
// Monitor says of them. Changed is called after an uplink has become suspect, or down, on the goroutine that found it.
func (m *Monitor) Start(probes []Probe, resolve Resolve, changed func(Status)) {
	m.probes, m.resolve, m.changed = inOrder(probes), resolve, changed
	if len(m.probes) > 0 {
		m.checks.Go(m.patrol)
	}
}

// enlist makes uplinks those that are watched over; what is known of those that were stays. m.mu must be held, but in New.
func (m *Monitor) enlist(uplinks []*uplink.Uplink) {
	now := time.Now()
	for n, f := range families {
		before := m.lines[n]
		m.lines[n] = make([]*line, len(uplinks))
		for at, u := range uplinks {
			if l := lineOf(before, u); l != nil {
				m.lines[n][at] = l
				continue
			}
			l := &line{Status: Status{Uplink: u, Family: f, Since: now}, hurry: make(chan struct{}, 1)}
			l.ctx, l.remove = context.WithCancel(m.ctx)
			m.lines[n][at] = l
		}
		for _, l := range before {
			if lineOf(m.lines[n], l.Uplink) == nil {
				l.remove()
			}
		}
		m.band(n)
	}
}

// lineOf returns the line of an uplink, nil when there is none.
func lineOf(lines []*line, u *uplink.Uplink) *line {
	for _, l := range lines {
		if l.Uplink == u {
			return l
		}
	}
	return nil
}

// band makes known which lines of a family are up. m.mu must be held, but in New.
func (m *Monitor) band(family int) {
	var others uplink.IDs
	for _, l := range m.lines[family] {
		if l.State != Up {
			others = others.With(l.Uplink.ID())
		}
	}
	m.bands[family].Store(&[]uplink.IDs{^others, others})
}

// Close ends all checks and waits for them.
func (m *Monitor) Close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	m.checks.Wait()
}

// Bands returns the uplinks that are up, and all others, for destinations of family f.
func (m *Monitor) Bands(f uplink.Family) []uplink.IDs { return *m.bands[indexOf(f)].Load() }

// Statuses returns all states, in the uplinks' order, IPv4 first. Families that an uplink has no address of are left
// out, unless it has none at all: then the kernel's reason stands for both.
func (m *Monitor) Statuses() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Status
	for n := range m.lines[0] {
		for f := range families {
			if l := m.lines[f][n]; !l.gone || m.lines[1-f][n].gone {
				all = append(all, l.Status)
			}
		}
	}
	return all
}

// become changes a line's state. m.mu must be held; what it returns is to be called without.
func (m *Monitor) become(l *line, s State, reason string) (after func()) {
	before := l.Status
	if before.State == s && before.Reason == reason {
		return func() {}
	}
	l.State, l.Reason = s, reason
	if before.State != s {
		l.Since = time.Now()
	}
	m.band(indexOf(l.Family))
	if s == Up {
		l.suspicion, l.login = suspicion{}, false
	}
	now := l.Status
	return func() { m.tell(before, now) }
}

func (m *Monitor) tell(before, now Status) {
	if before.State == now.State {
		return
	}
	attrs := []slog.Attr{
		slog.String("uplink", now.Uplink.Name()),
		slog.String("family", now.Family.String()),
		slog.String("reason", now.Reason),
	}
	ctx := context.Background()
	switch now.State {
	case Up:
		attrs[2] = slog.Duration("after", now.Since.Sub(before.Since))
		m.log.LogAttrs(ctx, slog.LevelInfo, "uplink is up again", attrs...)
	case Suspect:
		m.log.LogAttrs(ctx, slog.LevelWarn, "uplink is suspect", attrs...)
	case Down:
		m.log.LogAttrs(ctx, slog.LevelWarn, "uplink is down", attrs...)
	}
	if now.State != Up {
		m.changed(now)
	}
}
