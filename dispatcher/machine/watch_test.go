package machine

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// changingMachine is one with an interface, eth0, whose address a test changes, and the readings that are made of it.
type changingMachine struct {
	source  atomic.Value // the address of eth0, as a prefix
	failure atomic.Pointer[error]
	takes   time.Duration // what a reading takes
	reads   atomic.Int32
}

func (m *changingMachine) list() ([]Interface, error) {
	m.reads.Add(1)
	time.Sleep(m.takes)
	if err := m.failure.Load(); err != nil {
		return nil, *err
	}
	return []Interface{{Index: 2, Name: "eth0", Kind: KindEthernet, Up: true, Addresses: []Address{address(m.source.Load().(string))}}}, nil
}

func address(prefix string) Address { return Address{Prefix: netip.MustParsePrefix(prefix)} }

// bell is an event source that tests ring.
type bell struct {
	rung   chan struct{}
	death  chan error
	closed atomic.Bool
}

func (b *bell) ring() {
	select {
	case b.rung <- struct{}{}:
	default:
	}
}

func (b *bell) wait(ctx context.Context, atMost time.Duration) (bool, error) {
	if len(b.rung) > 0 {
		atMost = time.Hour
	}
	select {
	case <-b.rung:
		return true, nil
	case err := <-b.death:
		return false, err
	case <-ctx.Done():
	case <-time.After(atMost):
	}
	return false, nil
}

func (b *bell) close() error {
	b.closed.Store(true)
	return nil
}

// watched is a watch of eth0 in a bubble of synctest, so all times are exact.
type watched struct {
	*changingMachine
	*bell
	table    *Table
	readings chan *Reading // with room for all that a test makes
	log      bytes.Buffer
	end      func() // ends the watch and waits for it
}

func watch(t *testing.T, m *changingMachine) *watched {
	t.Helper()
	m.source.Store("198.51.100.2/24")
	w := &watched{
		changingMachine: m,
		bell:            &bell{rung: make(chan struct{}, 1), death: make(chan error, 1)},
		table:           &Table{List: m.list},
		readings:        make(chan *Reading, 1000),
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		watcher := watcher{table: w.table, log: slog.New(slog.NewTextHandler(&w.log, nil)), changed: func(r *Reading) { w.readings <- r }}
		watcher.follow(w.bell)
		watcher.run(ctx)
	}()
	w.end = func() {
		cancel()
		<-done
		if !w.closed.Load() || w.table.watched.Load() != 0 {
			t.Error("the watch has ended and its source is not closed, or the table still thinks it is watched")
		}
	}
	t.Cleanup(w.end)
	time.Sleep(time.Second) // the first readings
	w.expect(t, "198.51.100.2")
	m.reads.Store(0)
	return w
}

// expect takes the next Reading, which must be there, and no other.
func (w *watched) expect(t *testing.T, source string) {
	t.Helper()
	synctest.Wait()
	if len(w.readings) != 1 {
		t.Fatalf("changed was called %d times, want 1", len(w.readings))
	}
	if got := sourceOf(<-w.readings); got != source {
		t.Errorf("changed was told %s, want %s", got, source)
	}
	w.stands(t, source)
}

// stands checks what a reader gets now.
func (w *watched) stands(t *testing.T, source string) {
	t.Helper()
	if r, err := w.table.Read(); err != nil || sourceOf(r) != source {
		t.Errorf("a reader gets %+v, %v; want %s", r, err, source)
	}
}

func sourceOf(r *Reading) string { return r.Interfaces[0].Source(IPv4).String() }

func (w *watched) expectNone(t *testing.T) {
	t.Helper()
	synctest.Wait()
	if n := len(w.readings); n != 0 {
		t.Errorf("changed was called %d times for nothing", n)
	}
}

func TestWatchActsAtTheFirstEventAndOnceMoreAfterTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, new(changingMachine))
		w.source.Store("198.51.100.3/24")
		w.ring()
		time.Sleep(gather)
		w.expect(t, "198.51.100.3")

		// The kernel announced a change before it made it.
		time.Sleep(pause / 2)
		w.source.Store("198.51.100.4/24")
		time.Sleep(pause / 2)
		w.expect(t, "198.51.100.4")
		if n := w.reads.Load(); n != 2 {
			t.Errorf("%d readings for one event, want 2", n)
		}

		// An event that changes nothing here.
		w.ring()
		time.Sleep(time.Second)
		w.expectNone(t)
	})
}

func TestWatchBoundsReadings(t *testing.T) {
	for name, c := range map[string]struct{ takes, apart time.Duration }{
		"quick":    {time.Millisecond, 50 * time.Millisecond},
		"slow":     {40 * time.Millisecond, 200 * time.Millisecond},
		"hopeless": {700 * time.Millisecond, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := watch(t, &changingMachine{takes: c.takes})
				for range 10000 {
					w.ring()
					time.Sleep(time.Millisecond)
				}
				w.source.Store("198.51.100.9/24")
				w.ring()
				time.Sleep(4 * time.Second)
				n := w.reads.Load()
				t.Logf("%d readings of %s in 10 s of an event each millisecond", n, c.takes)
				// One at the first event, one after the last, and one that had begun by then.
				want := int32(10 * time.Second / (c.takes + c.apart))
				if n > want+3 || n < want {
					t.Errorf("%d readings, want %d and up to 3 more", n, want)
				}
				w.expect(t, "198.51.100.9")
			})
		})
	}
}

// While there is a watch, and nothing happens, no dial reads.
func TestWatchTakesReadingOffTheDialPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, new(changingMachine))
		const hours = 3600 * 3
		for range hours {
			if _, err := w.table.Read(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if n, want := w.reads.Load(), int32(hours/quietReread.Seconds()); n > want {
			t.Errorf("%d readings in 3 hours, want %d", n, want)
		}
		w.expectNone(t)

		// What has no event is still found.
		w.source.Store("198.51.100.3/24")
		time.Sleep(quietReread)
		w.expect(t, "198.51.100.3")

		// A failed attempt does not wait for one either.
		w.source.Store("198.51.100.4/24")
		w.table.Invalidate()
		w.stands(t, "198.51.100.4")
	})
}

func TestWatchSurvivesItsSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, new(changingMachine))
		w.death <- errors.New("boom")
		time.Sleep(time.Second)
		if !w.closed.Load() || w.table.watched.Load() != 0 {
			t.Error("the dead source is not closed, or the table still relies on it")
		}
		for n := range 20 {
			source := []string{"198.51.100.3", "198.51.100.4"}[n%2]
			w.source.Store(source + "/24")
			time.Sleep(tableTTL)
			w.expect(t, source)
		}
		w.end()
		if n := strings.Count(w.log.String(), "\n"); n != 1 || !strings.Contains(w.log.String(), "boom") {
			t.Errorf("want one warning that tells the cause, got:\n%s", w.log.String())
		}
	})
}

func TestWatchSurvivesReadingsThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, new(changingMachine))
		boom := errors.New("boom")
		w.failure.Store(&boom)
		w.source.Store("198.51.100.3/24")
		w.ring()
		for range 30 {
			time.Sleep(time.Second)
			w.stands(t, "198.51.100.2")
		}
		w.expectNone(t)
		w.failure.Store(nil)
		time.Sleep(tableTTL)
		w.expect(t, "198.51.100.3") // without another event
		w.end()
		if n := strings.Count(w.log.String(), "\n"); n != 1 || !strings.Contains(w.log.String(), "boom") {
			t.Errorf("want one warning that tells the cause, got:\n%s", w.log.String())
		}
	})
}

// The system's own source, whatever it is here: the watch begins with what there is, and ends with its context.
func TestWatchBeginsAndEnds(t *testing.T) {
	table := new(Table)
	interfaces, err := table.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	told := false
	table.Watch(ctx, slog.New(slog.NewTextHandler(t.Output(), nil)), func(r *Reading) {
		told = true
		if r.Interfaces[0].Name != interfaces[0].Name {
			t.Errorf("told %+v", r.Interfaces)
		}
		cancel()
	})
	if !told {
		t.Error("not told what there is at the beginning")
	}
	table.Watch(ctx, slog.New(slog.DiscardHandler), func(*Reading) {})
}
