package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// bench is one comparison.
type bench struct {
	o       options
	field   []*contender // the direct one first
	tests   []test
	servers *process
	results results
}

// test is one kind of load.
type test struct {
	name, title string
	// about says what a figure of the test is, for its reader.
	about   string
	metrics []metric
	// fits tells whether a contender can take part; nil: all can.
	fits func(*contender) bool
	// run measures one contender once: a value for each metric, NaN for one that it has not.
	run func(ctx context.Context, b *bench, c *contender) ([]float64, error)
	// fresh tells that each measurement needs a process that has not worked yet.
	fresh bool
}

// metric is one figure of a test.
type metric struct {
	name    string
	format  string // of fmt, for a float64
	against against
	summary string // its column in the summary; empty: it has none
}

// against is how a figure relates to the direct one beside it.
type against int

const (
	alone against = iota // not at all
	share                // as a quotient
	minus                // what it is more than direct is the figure
)

// results are pairs of measurements, by test and contender.
type results map[string]map[string]*result

type result struct {
	pairs  []pair
	failed []error // one for each measurement that gave no pair
}

// pair is a measurement of a contender and its direct neighbour.
type pair struct{ own, direct []float64 }

func newBench(ctx context.Context, dir string, o options) (*bench, error) {
	b := &bench{o: o, results: make(results)}
	for _, t := range tests() {
		if len(o.tests) == 0 || slices.Contains(o.tests, t.name) {
			b.tests = append(b.tests, t)
			b.results[t.name] = make(map[string]*result)
		}
	}
	var err error
	if b.field, err = field(ctx, dir, o); err != nil {
		return nil, err
	}
	home := filepath.Join(dir, "servers")
	if err := os.Mkdir(home, 0o755); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	argv := []string{self, roleServe}
	last := b.field[len(b.field)-1].server
	for port := firstServerPort; port <= int(last.Port()); port += services {
		argv = append(argv, strconv.Itoa(port))
	}
	if b.servers, err = launch("the servers", home, nil, argv...); err != nil {
		return nil, err
	}
	if err := b.servers.await(ctx, []netip.AddrPort{at(last, services-1)}); err != nil {
		return nil, errors.Join(err, b.servers.stop())
	}
	return b, nil
}

// close ends all that was started.
func (b *bench) close() error {
	errs := []error{b.servers.stop()}
	for _, c := range b.field {
		errs = append(errs, c.by.stop())
	}
	return errors.Join(errs...)
}

// measure runs all rounds. What was measured before an error, which is that of a cancelled context, is kept.
func (b *bench) measure(ctx context.Context) error {
	for round := range b.o.rounds {
		for _, t := range b.tests {
			rivals := b.field[1:]
			for i := range rivals {
				c := rivals[(i+round)%len(rivals)]
				if t.fits != nil && !t.fits(c) {
					continue
				}
				p, err := b.pair(ctx, t, c, (i+round)%2 == 0)
				if ctx.Err() != nil {
					return fmt.Errorf("interrupted in round %d of %d: %w", round+1, b.o.rounds, context.Cause(ctx))
				}
				b.keep(t, c, p, err)
				b.tell(round, t, c, p, err)
			}
		}
	}
	return nil
}

// pair measures a contender and the direct connection, one right after the other.
func (b *bench) pair(ctx context.Context, t test, c *contender, directFirst bool) (p pair, err error) {
	if directFirst {
		if p.direct, err = b.once(ctx, t, b.field[0]); err != nil {
			return pair{}, fmt.Errorf("direct: %w", err)
		}
	}
	if p.own, err = b.once(ctx, t, c); err != nil {
		return pair{}, err
	}
	if !directFirst {
		if p.direct, err = b.once(ctx, t, b.field[0]); err != nil {
			return pair{}, fmt.Errorf("direct: %w", err)
		}
	}
	return p, nil
}

// spare is the time that a measurement has beside its load: for handshakes, and for what is slow to close.
const spare = 20 * time.Second

func (b *bench) once(ctx context.Context, t test, c *contender) ([]float64, error) {
	if t.fresh {
		if err := c.by.stop(); err != nil {
			return nil, err
		}
	}
	if c.by != nil {
		if _, err := c.by.running(ctx); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, b.o.limit+spare)
	defer cancel()
	return t.run(ctx, b, c)
}

func (b *bench) keep(t test, c *contender, p pair, err error) {
	r := b.results[t.name][c.name]
	if r == nil {
		r = new(result)
		b.results[t.name][c.name] = r
	}
	if err != nil {
		r.failed = append(r.failed, err)
		return
	}
	r.pairs = append(r.pairs, p)
}

// tell shows the progress.
func (b *bench) tell(round int, t test, c *contender, p pair, err error) {
	fmt.Fprintf(os.Stderr, "round %d of %d, %s, %s:", round+1, b.o.rounds, t.name, c.name)
	if err != nil {
		fmt.Fprintf(os.Stderr, " FAILED: %v\n", err)
		return
	}
	for i, m := range t.metrics {
		fmt.Fprintf(os.Stderr, " %s "+m.format, m.name, p.own[i])
		if m.against != alone {
			fmt.Fprintf(os.Stderr, " (direct "+m.format+")", p.direct[i])
		}
	}
	fmt.Fprintln(os.Stderr)
}

// metered does the work and returns the CPU time that the contender's proxy spent on it, in seconds; NaN for direct.
func metered(ctx context.Context, c *contender, work func() error) (float64, error) {
	if c.by == nil {
		return math.NaN(), work()
	}
	run, err := c.by.running(ctx)
	if err != nil {
		return 0, err
	}
	before, err := run.cpu()
	if err != nil {
		return 0, err
	}
	if err := work(); err != nil {
		return 0, err
	}
	time.Sleep(afterwork)
	after, err := run.cpu()
	return (after - before).Seconds(), err
}

// afterwork is left to a proxy to finish with sessions that the client has ended: this is part of what they cost.
const afterwork = 100 * time.Millisecond
