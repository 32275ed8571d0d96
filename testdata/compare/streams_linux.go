package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
)

func streamTests() []test {
	metrics := func(summary string) []metric {
		return []metric{
			{name: "GB/s", format: "%.2f", against: share, summary: summary + ", share of direct"},
			{name: "CPU s/GB", format: "%.3f", summary: summary + ", CPU s/GB"},
		}
	}
	return []test{
		{
			name: "stream", title: "One stream", about: "One connection, from the server to the client.",
			metrics: metrics("1 stream"), run: streams(1, bulkDown),
		},
		{
			name: "streams", title: "Eight streams", about: "Eight connections at once, from the server to the client.",
			metrics: metrics("8 streams"), run: streams(8, bulkDown),
		},
		{
			name: "upload", title: "One stream up", about: "One connection, from the client to the server.",
			metrics: metrics("upload"), run: streams(1, bulkUp),
		},
	}
}

// streams moves the bytes of one measurement over so many connections at once.
func streams(count int, direction byte) func(context.Context, *bench, *contender) ([]float64, error) {
	return func(ctx context.Context, b *bench, c *contender) ([]float64, error) {
		conns, err := dialMany(ctx, c, serviceBulk, count)
		defer closeAll(conns)
		if err != nil {
			return nil, err
		}
		move := download
		if direction == bulkUp {
			move = upload
		}
		moved := make([]int64, count)
		var took time.Duration
		cpu, err := metered(ctx, c, func() error {
			var g errgroup.Group
			began := time.Now()
			for i, conn := range conns {
				g.Go(func() (err error) {
					moved[i], err = move(conn, b.o.bytes/int64(count), began.Add(b.o.limit))
					return err
				})
			}
			err := g.Wait()
			took = time.Since(began)
			return err
		})
		if err != nil {
			return nil, err
		}
		var gigabytes float64
		for _, n := range moved {
			gigabytes += float64(n) / 1e9
		}
		return []float64{gigabytes / took.Seconds(), cpu / gigabytes}, nil
	}
}

func bulkHead(direction byte, size int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{direction}, uint64(size))
}

// download reads size bytes, or until the given time, and returns how many they were.
func download(conn net.Conn, size int64, until time.Time) (int64, error) {
	if err := conn.SetReadDeadline(until); err != nil {
		return 0, err
	}
	if _, err := conn.Write(bulkHead(bulkDown, size)); err != nil {
		return 0, err
	}
	buf := make([]byte, bulkChunk)
	for got := int64(0); ; {
		n, err := conn.Read(buf)
		got += int64(n)
		switch {
		case errors.Is(err, io.EOF) && got == size:
			return got, nil
		case errors.Is(err, os.ErrDeadlineExceeded) && got > 0:
			return got, nil
		case err != nil:
			return got, fmt.Errorf("after %d of %d bytes: %w", got, size, err)
		}
	}
}

// upload writes size bytes, or until the given time, and returns how many the server has.
func upload(conn net.Conn, size int64, until time.Time) (int64, error) {
	if _, err := conn.Write(bulkHead(bulkUp, size)); err != nil {
		return 0, err
	}
	buf := make([]byte, bulkChunk)
	rest := size
	for rest > 0 && time.Now().Before(until) {
		n, err := conn.Write(buf[:min(rest, bulkChunk)])
		rest -= int64(n)
		if err != nil {
			return 0, fmt.Errorf("after %d of %d bytes: %w", size-rest, size, err)
		}
	}
	if rest > 0 { // only then: some proxies take the client's half for the whole
		half, ok := conn.(interface{ CloseWrite() error })
		if !ok {
			return 0, fmt.Errorf("%T cannot be half closed", conn)
		}
		if err := half.CloseWrite(); err != nil {
			return 0, err
		}
	}
	var got [8]byte
	if _, err := io.ReadFull(conn, got[:]); err != nil {
		return 0, fmt.Errorf("the server's count: %w", err)
	}
	return int64(binary.BigEndian.Uint64(got[:])), nil
}

// dialMany returns also those that were opened before an error.
func dialMany(ctx context.Context, c *contender, service, count int) ([]net.Conn, error) {
	conns := make([]net.Conn, 0, count)
	for range count {
		conn, err := c.dial(ctx, service)
		if err != nil {
			return conns, fmt.Errorf("connection %d of %d: %w", len(conns)+1, count, err)
		}
		conns = append(conns, conn)
	}
	return conns, nil
}

func closeAll(conns []net.Conn) {
	for _, conn := range conns {
		_ = conn.Close() // a measurement that needs its end to be clean has seen to it before
	}
}
