package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

func connectionTests() []test {
	metrics := func(summary string) []metric {
		return []metric{
			{name: "connections/s", format: "%.0f", against: share, summary: "connections, " + summary + ", share of direct"},
			{name: "CPU us/connection", format: "%.0f", summary: "CPU us/connection, " + summary},
		}
	}
	const about = "Connect, handshake, one byte each way, close; "
	return []test{
		{
			name: "connect", title: "Connections, one at a time", about: about + "one after the other.",
			metrics: metrics("c = 1"), run: connections(1),
		},
		{
			name: "connect16", title: "Connections, sixteen at a time", about: about + "sixteen at any time.",
			metrics: metrics("c = 16"), run: connections(16),
		},
		{
			name: "trip", title: "Round trip", about: "One byte there and back, through an open connection.",
			metrics: []metric{
				{name: "p50 us", format: "%.1f", against: share, summary: "round trip, times direct"},
				{name: "p90 us", format: "%.1f", against: share},
				{name: "p99 us", format: "%.1f", against: share},
				{name: "CPU us/trip", format: "%.1f"},
			},
			run: trips,
		},
	}
}

// connections opens and closes connections, so many at any time.
func connections(concurrency int) func(context.Context, *bench, *contender) ([]float64, error) {
	return func(ctx context.Context, b *bench, c *contender) ([]float64, error) {
		var done int64
		var took time.Duration
		cpu, err := metered(ctx, c, func() (err error) {
			done, took, err = repeat(concurrency, b.o.conns, b.o.limit, func() error { return shortSession(ctx, c) })
			return err
		})
		if err != nil {
			return nil, err
		}
		return []float64{float64(done) / took.Seconds(), cpu * 1e6 / float64(done)}, nil
	}
}

// repeat does work so many times, spread over so many goroutines, or for a time, and returns how often it was done.
func repeat(concurrency, times int, limit time.Duration, work func() error) (int64, time.Duration, error) {
	var g errgroup.Group
	var begun, done atomic.Int64
	began := time.Now()
	for range concurrency {
		g.Go(func() error {
			for begun.Add(1) <= int64(times) && time.Since(began) < limit {
				if err := work(); err != nil {
					return err
				}
				done.Add(1)
			}
			return nil
		})
	}
	err := g.Wait()
	if done.Load() == 0 && err == nil {
		err = errors.New("nothing was done in time")
	}
	return done.Load(), time.Since(began), err
}

// shortSession is the least that a session can be used for.
func shortSession(ctx context.Context, c *contender) error {
	conn, err := c.dial(ctx, serviceEcho)
	if err != nil {
		return err
	}
	return errors.Join(trip(conn), conn.Close())
}

// trip sends a byte and waits until it is back.
func trip(conn net.Conn) error {
	b := [1]byte{'.'}
	if _, err := conn.Write(b[:]); err != nil {
		return fmt.Errorf("the byte out: %w", err)
	}
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return fmt.Errorf("the byte back: %w", err)
	}
	return nil
}

// warmTrips go before those that are measured: the first ones of a connection are not like the rest.
const warmTrips = 200

func trips(ctx context.Context, b *bench, c *contender) (_ []float64, err error) {
	conn, err := c.dial(ctx, serviceEcho)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	for range warmTrips {
		if err := trip(conn); err != nil {
			return nil, err
		}
	}
	times := make([]time.Duration, 0, b.o.trips)
	cpu, err := metered(ctx, c, func() error {
		for began := time.Now(); len(times) < b.o.trips && time.Since(began) < b.o.limit; {
			sent := time.Now()
			if err := trip(conn); err != nil {
				return err
			}
			times = append(times, time.Since(sent))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(times)
	at := func(percent int) float64 {
		return float64(times[(len(times)-1)*percent/100]) / float64(time.Microsecond)
	}
	return []float64{at(50), at(90), at(99), cpu * 1e6 / float64(len(times))}, nil
}
