package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// Of a measurement of idle sessions.
const (
	warmSessions = 50                     // used before the first look, so that what a proxy sets up once does not count
	quiet        = 500 * time.Millisecond // before the first looks at the memory
	long         = 6 * time.Second        // before the last one: an idle session is one that has been so for a while
	backWithin   = time.Second            // after the client's end
)

func idleTests() []test {
	return []test{{
		name: "idle", title: "Idle sessions",
		about: "What a session costs that was used for one byte each way and stays open, in a fresh process: 6 s later, and at first, after 0.5 s; then all are closed. " +
			"Resident memory is the proportional set size. Kernel memory is an estimate: objects in use in the kernel's caches for sockets, open files, epoll " +
			"and packet buffers, less those of a direct session, and the process's threads and page tables.",
		metrics: []metric{
			{name: "resident KiB/session", format: "%.1f", summary: "idle session, KiB resident"},
			{name: "at first", format: "%.1f", summary: "KiB resident at first"},
			{name: "kernel KiB/session", format: "%.1f", against: minus, summary: "KiB in the kernel"},
			{name: "descriptors/session", format: "%.2f", summary: "descriptors"},
			{name: "descriptors left after 1 s", format: "%.0f", summary: "descriptors left after 1 s"},
			{name: "ms until all are back", format: "%.0f"},
		},
		run: idle, fresh: true,
	}}
}

// look is what a contender's proxy and the kernel hold at one moment.
type look struct {
	holding
	kernel kernelMemory
}

func lookAt(c *contender) (l look, err error) {
	if c.by != nil {
		if l.holding, err = c.by.run.holds(); err != nil {
			return look{}, err
		}
	}
	l.kernel, err = readKernelMemory()
	if errors.Is(err, errNoSlabs) {
		l.kernel.sessions = math.MinInt64
		err = nil
	}
	return l, err
}

func idle(ctx context.Context, b *bench, c *contender) ([]float64, error) {
	for range warmSessions {
		if err := shortSession(ctx, c); err != nil {
			return nil, err
		}
	}
	if err := rest(ctx, quiet); err != nil {
		return nil, err
	}
	before, err := lookAt(c)
	if err != nil {
		return nil, err
	}
	conns, err := dialMany(ctx, c, serviceEcho, b.o.idle)
	defer closeAll(conns)
	if err != nil {
		return nil, err
	}
	for i, conn := range conns {
		if err := trip(conn); err != nil {
			return nil, fmt.Errorf("session %d: %w", i+1, err)
		}
	}
	if err := rest(ctx, quiet); err != nil {
		return nil, err
	}
	first, err := lookAt(c)
	if err != nil {
		return nil, err
	}
	if err := rest(ctx, long); err != nil {
		return nil, err
	}
	during, err := lookAt(c)
	if err != nil {
		return nil, err
	}
	closeAll(conns)
	left, back, err := awaitDescriptors(ctx, c, before.descriptors)
	if err != nil {
		return nil, err
	}
	return perSession(before, first, during, float64(len(conns)), c.by == nil, left, back), nil
}

// perSession turns the looks into the test's metrics.
func perSession(before, first, during look, sessions float64, direct bool, left, back float64) []float64 {
	const kiB = 1 << 10
	kernel := math.NaN()
	if before.kernel.sessions != math.MinInt64 {
		inKernel := during.kernel.sessions - before.kernel.sessions +
			(during.threads-before.threads)*before.kernel.thread + during.pageTables - before.pageTables
		kernel = float64(inKernel) / kiB / sessions
	}
	if direct {
		return []float64{math.NaN(), math.NaN(), kernel, math.NaN(), math.NaN(), math.NaN()}
	}
	return []float64{
		float64(during.resident-before.resident) / kiB / sessions,
		float64(first.resident-before.resident) / kiB / sessions, kernel,
		float64(during.descriptors-before.descriptors) / sessions, left, back,
	}
}

// awaitDescriptors waits until the proxy has no more descriptors than want, a second at most. It returns how many
// more it has then, and after how many milliseconds there were none, NaN if there still are.
func awaitDescriptors(ctx context.Context, c *contender, want int64) (left, back float64, err error) {
	if c.by == nil {
		return 0, 0, nil
	}
	for closed := time.Now(); ; {
		has, err := c.by.run.holds()
		if err != nil {
			return 0, 0, err
		}
		took := time.Since(closed)
		if has.descriptors <= want {
			return 0, float64(took.Milliseconds()), nil
		}
		if took > backWithin {
			return float64(has.descriptors - want), math.NaN(), nil
		}
		if err := rest(ctx, 5*time.Millisecond); err != nil {
			return 0, 0, err
		}
	}
}

// rest waits.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
