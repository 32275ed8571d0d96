package uplink

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// tableTTL is how long a reading of the interfaces serves. Short enough that an address change is followed
// within a second, long enough that a busy gateway does not ask the kernel at every dial.
const tableTTL = time.Second

// Table is the machine's interfaces, read anew when the last reading is older than a second or was invalidated.
// The zero value is ready to use. All methods are safe for concurrent use.
type Table struct {
	// List reads the interfaces; nil means the OS's own.
	List func() ([]Interface, error)

	mu      sync.Mutex // held while reading
	current atomic.Pointer[reading]
}

// reading is one list of interfaces; its address identifies it, so that what was derived from it can be cached.
type reading struct {
	interfaces []Interface
	at         time.Time
	stale      atomic.Bool
}

func (r *reading) fresh() bool {
	return r != nil && !r.stale.Load() && time.Since(r.at) < tableTTL
}

// Interfaces returns the current reading. The slice is shared and must not be changed.
func (t *Table) Interfaces() ([]Interface, error) {
	r, err := t.read()
	if err != nil {
		return nil, err
	}
	return r.interfaces, nil
}

// Invalidate makes the next use read the interfaces again.
func (t *Table) Invalidate() {
	if r := t.current.Load(); r != nil {
		r.stale.Store(true)
	}
}

func (t *Table) read() (*reading, error) {
	r := t.current.Load()
	if r.fresh() {
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
	if r := t.current.Load(); r.fresh() {
		return r, nil
	}
	list := t.List
	if list == nil {
		list = Interfaces
	}
	interfaces, err := list()
	if err != nil {
		return nil, fmt.Errorf("read the network interfaces: %w", err)
	}
	next := &reading{interfaces: interfaces, at: time.Now()}
	t.current.Store(next)
	return next, nil
}
