package uplink

import (
	"context"
	"log/slog"
	"slices"

	"dispatch/dispatcher/machine"
)

// Watch keeps the Fleet's View true, as machine.Table.Watch does the interfaces, and calls changed with each View in which
// a line differs from the View before: in its interface, families, source addresses, problem, or default routes; or
// which lacks an address of the machine that was there before: connections may have left from it, though it is not a
// line's source any more. The first call comes at once. It returns when ctx ends; changed must return soon.
func (f *Fleet) Watch(ctx context.Context, log *slog.Logger, changed func(*View)) {
	w := &watcher{fleet: f, changed: changed}
	f.table.Watch(ctx, log, w.take)
}

// watcher is one call of Watch.
type watcher struct {
	fleet   *Fleet
	changed func(*View)
	last    *View // of the last reading
}

// take calls changed if a reading says of the lines what the last one did not.
func (w *watcher) take(r *machine.Reading) {
	v, last := w.fleet.viewOf(r), w.last
	w.last = v
	if last == nil || !slices.Equal(v.Bindings, last.Bindings) || v.lacks(last) {
		w.changed(v)
	}
}
