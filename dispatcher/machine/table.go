package machine

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// tableTTL is how long a reading of the interfaces serves where nobody watches for changes. Short enough that
	// an address change is followed within a second, long enough that a busy router does not ask the kernel at
	// every dial.
	tableTTL = time.Second
	// watchedTTL is how long it serves while a watcher follows the OS's events. The watcher reads anew more often
	// than that even if there are none, so that a dial never has to.
	watchedTTL = time.Minute
)

// Table is the machine's interfaces, read anew when the last reading is older than a second or was invalidated;
// while Watch follows the OS's events, when those say so. When the OS cannot be asked, the last reading serves
// on, and the OS is asked again a second later: what is tied to an interface or address that has gone fails by itself.
// The zero value is ready to use. All methods are safe for concurrent use.
type Table struct {
	// List reads the interfaces; nil means the OS's own.
	List func() ([]Interface, error)

	mu      sync.Mutex // held while reading
	current atomic.Pointer[Reading]
	watched atomic.Int32 // the watchers that follow events
}

// Reading is one list of interfaces; its address identifies it, so that what was derived from it can be cached.
type Reading struct {
	// Interfaces is shared and must not be changed.
	Interfaces []Interface
	// At is when it was made.
	At time.Time

	stale    atomic.Bool
	extended atomic.Int64 // a time.Duration since At: the reading serves until then, for the OS could not be asked
}

func (t *Table) fresh(r *Reading) bool {
	ttl := tableTTL
	if t.watched.Load() > 0 {
		ttl = watchedTTL
	}
	if r == nil {
		return false
	}
	age := time.Since(r.At)
	return !r.stale.Load() && age < ttl || age < time.Duration(r.extended.Load())
}

// Interfaces returns the current reading; an error only when there has never been one. The slice is shared and must not
// be changed.
func (t *Table) Interfaces() ([]Interface, error) {
	r, err := t.Read()
	if err != nil {
		return nil, err
	}
	return r.Interfaces, nil
}

// Invalidate makes the next use read the interfaces again.
func (t *Table) Invalidate() {
	if r := t.current.Load(); r != nil {
		r.stale.Store(true)
	}
}

// Read returns the current reading; an error only when there has never been one.
func (t *Table) Read() (*Reading, error) {
	r := t.current.Load()
	if t.fresh(r) {
		return r, nil
	}
	if r != nil && !r.stale.Load() {
		// Merely old: one caller renews it, the others need not wait for that.
		if !t.mu.TryLock() {
			return r, nil
		}
	} else {
		t.mu.Lock()
	}
	defer t.mu.Unlock()
	r = t.current.Load()
	if t.fresh(r) {
		return r, nil
	}
	next, err := t.list()
	if err != nil && r != nil {
		r.extended.Store(int64(time.Since(r.At) + tableTTL))
		return r, nil // Watch tells of the failure
	}
	return next, err
}

// renew reads the interfaces now, whatever the age of the last reading. That one serves others in the meantime, so
// that no dial waits; when renew fails it goes on serving until it is old.
func (t *Table) renew() (*Reading, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.list()
}

// list makes a reading the current one. It must hold mu.
func (t *Table) list() (*Reading, error) {
	list := t.List
	if list == nil {
		list = Interfaces
	}
	interfaces, err := list()
	if err != nil {
		return nil, fmt.Errorf("read the network interfaces: %w", err)
	}
	next := &Reading{Interfaces: interfaces, At: time.Now()}
	t.current.Store(next)
	return next, nil
}
