package machine

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"
)

const (
	// gather lets the events that belong to the first one arrive before the interfaces are read: a link that goes
	// down takes addresses and routes with it, one event each.
	gather = 5 * time.Millisecond
	// pause is between two readings, so what a burst of events costs does not depend on their number. A reading that
	// an event has caused is always followed by another, because the kernel announces some changes just before it
	// makes them (Linux the removal of an IPv4 route: fib_table_delete).
	pause = 50 * time.Millisecond
	// pauseFactor makes the pause longer than that where a reading takes long, up to tableTTL: with hundreds of
	// interfaces that come and go, the readings still take no more than a sixth of one processor's time.
	pauseFactor = 5
)

// Watch keeps the Table true: it follows what the OS tells of links, addresses, routes and rules, reads the interfaces
// anew when something happened (5 ms after the first event, then every 50 ms until the events end, and once more after
// the last), and calls changed with each Reading that differs from the one before. The first call comes at once, with
// what was read after the watch had begun; so nothing is missed, however long before that the Table was first read.
//
// It returns when ctx ends, and changed is not called after that. The calls come one by one, in order; as no reading
// is made during a call, changed must return soon, and must not wait for Watch to end.
//
// While Watch follows events, Read does not read the interfaces by itself, save after Invalidate. Where the OS has no
// events, or they fail (one warning is logged), the interfaces are read every second instead. A reading that fails is
// logged and tried again every second; the last one stands until then.
func (t *Table) Watch(ctx context.Context, log *slog.Logger, changed func(*Reading)) {
	w := &watcher{table: t, log: log, changed: changed}
	events, err := openEvents()
	if err == nil {
		w.follow(events)
	} else {
		w.poll(err)
	}
	w.run(ctx)
}

// eventSource tells that something changed, never what: the interfaces are read anew in any case, so an event that was
// lost among others does not matter.
type eventSource interface {
	// wait returns true as soon as there was an event since the last call, and forgets all there were; false when
	// atMost is over or ctx has ended. After an error the source is dead.
	wait(ctx context.Context, atMost time.Duration) (bool, error)
	close() error
}

// watcher is one call of Watch.
type watcher struct {
	table   *Table
	log     *slog.Logger
	changed func(*Reading)

	events  eventSource // nil: poll
	last    *Reading
	failing bool // the last reading failed, and that was logged
}

// follow takes over the source.
func (w *watcher) follow(events eventSource) {
	w.events = events
	w.table.watched.Add(1)
}

// poll gives up the source, if there is one.
func (w *watcher) poll(cause error) {
	w.release()
	if !errors.Is(cause, errors.ErrUnsupported) {
		w.log.Warn("cannot follow the system's network events; the interfaces are read every second instead", "error", cause)
	}
}

func (w *watcher) release() {
	if w.events == nil {
		return
	}
	w.table.watched.Add(-1)
	if err := w.events.close(); err != nil {
		w.log.Warn("cannot close the source of network events", "error", err)
	}
	w.events = nil
}

func (w *watcher) run(ctx context.Context) {
	defer w.release()
	event := true // as if: a change may have been under way when the watch began
	for ctx.Err() == nil {
		begun := time.Now()
		r, err := w.table.renew()
		rest := min(max(pause, pauseFactor*time.Since(begun)), tableTTL)
		quiet := quietReread
		switch {
		case err != nil:
			rest, quiet = tableTTL, 0
		case event:
			quiet = 0 // it may not have been the last, or have come too early
		}
		w.report(r, err)
		sleep(ctx, rest)
		burst := event
		if event = w.wait(ctx, quiet); event && !burst {
			sleep(ctx, gather)
		}
	}
}

// wait tells whether there was an event; after it, in any case, the interfaces are to be read.
func (w *watcher) wait(ctx context.Context, atMost time.Duration) bool {
	if w.events == nil {
		sleep(ctx, min(atMost, tableTTL))
		return false
	}
	event, err := w.events.wait(ctx, atMost)
	if err != nil {
		w.poll(err)
	}
	return event
}

// report calls changed if a reading says what the last one did not.
func (w *watcher) report(r *Reading, err error) {
	if err != nil {
		if !w.failing {
			w.log.Warn("cannot read the network interfaces; trying again every second", "error", err)
		}
		w.failing = true
		return
	}
	w.failing = false
	if w.last == nil || !slices.EqualFunc(r.Interfaces, w.last.Interfaces, Interface.equal) {
		w.changed(r)
	}
	w.last = r
}

// sleep returns when d is over or ctx has ended.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
