package dispatcher

import (
	"cmp"
	"log/slog"
	"maps"
	"slices"
	"sync"
)

// Account is the sum over some sessions.
type Account struct {
	// Live sessions, and Total ones since the start, the live ones included.
	Live, Total int64
	// Failed ones never came to carry anything: their request could not be served.
	Failed int64
	// Up and Down are bytes, to and from the destinations, of ended and live sessions.
	Up, Down int64
}

// NamedAccount is the account of one uplink or listener.
type NamedAccount struct {
	Name string
	Account
}

// LogValue gives the account's figures.
func (a Account) LogValue() slog.Value {
	return slog.GroupValue(
		slog.Int64("live", a.Live), slog.Int64("total", a.Total), slog.Int64("failed", a.Failed),
		slog.Int64("up", a.Up), slog.Int64("down", a.Down),
	)
}

// Snapshot is all accounts at one moment.
type Snapshot struct {
	All Account
	// Uplinks in the user's order, then those that are gone, then Direct, then one without a name for requests that found
	// no line.
	Uplinks []NamedAccount
	// Listeners by name.
	Listeners []NamedAccount
}

// ledger keeps the sessions: the live ones in a list, the ended ones as sums. The zero value is empty.
type ledger struct {
	mu         sync.Mutex
	live       *Session
	byUplink   map[string]*Account
	byListener map[string]*Account
}

func (l *ledger) open(s *Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.next = l.live; s.next != nil {
		s.next.prev = s
	}
	l.live = s
}

func (l *ledger) close(s *Session, r *Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		l.live = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	s.prev, s.next = nil, nil

	if l.byUplink == nil {
		l.byUplink, l.byListener = make(map[string]*Account), make(map[string]*Account)
	}
	for _, a := range []*Account{entry(l.byUplink, r.Line), entry(l.byListener, r.Request.Listener())} {
		a.add(r.Up, r.Down)
		if !r.Class.served() {
			a.Failed++
		}
	}
}

func (a *Account) add(up, down int64) {
	a.Total++
	a.Up += up
	a.Down += down
}

// lineName is empty while the session has no line.
func (s *Session) lineName() string {
	if c := s.conn.Load(); c != nil {
		return lineName(c.uplink)
	}
	return ""
}

func entry(accounts map[string]*Account, name string) *Account {
	a := accounts[name]
	if a == nil {
		a = new(Account)
		accounts[name] = a
	}
	return a
}

// Snapshot sums up all sessions since the start, live ones with what they have carried so far.
func (d *Dispatcher) Snapshot() Snapshot {
	byUplink, byListener := make(map[string]*Account), make(map[string]*Account)
	l := &d.ledger
	l.mu.Lock()
	for name, a := range l.byUplink {
		*entry(byUplink, name) = *a
	}
	for name, a := range l.byListener {
		*entry(byListener, name) = *a
	}
	for s := l.live; s != nil; s = s.next {
		for _, a := range []*Account{entry(byUplink, s.lineName()), entry(byListener, s.Request.Listener())} {
			a.add(s.bytes.Up.Load(), s.bytes.Down.Load())
			a.Live++
		}
	}
	l.mu.Unlock()

	var out Snapshot
	for name, a := range byListener {
		out.Listeners = append(out.Listeners, NamedAccount{name, *a})
		out.All.Live += a.Live
		out.All.Total += a.Total
		out.All.Failed += a.Failed
		out.All.Up += a.Up
		out.All.Down += a.Down
	}
	slices.SortFunc(out.Listeners, func(a, b NamedAccount) int { return cmp.Compare(a.Name, b.Name) })
	for _, u := range d.fleet.Uplinks() {
		out.Uplinks = append(out.Uplinks, take(byUplink, u.Name()))
	}
	for _, name := range slices.Sorted(maps.Keys(byUplink)) { // of uplinks that are gone
		if name != Direct && name != "" {
			out.Uplinks = append(out.Uplinks, take(byUplink, name))
		}
	}
	for _, name := range []string{Direct, ""} {
		if byUplink[name] != nil {
			out.Uplinks = append(out.Uplinks, take(byUplink, name))
		}
	}
	return out
}

// take moves an account out of the map; it is empty where there is none.
func take(accounts map[string]*Account, name string) NamedAccount {
	a := NamedAccount{Name: name, Account: *entry(accounts, name)}
	delete(accounts, name)
	return a
}
