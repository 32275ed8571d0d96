package relay

import (
	"net"
	"sync"
)

const (
	// bufferSize is what one read moves at most. Smaller ones cost more for
	// each byte, larger ones more for each receiver that is slow to take it.
	bufferSize = 64 << 10
	// waitSize is what is held while a connection is waited for that can only
	// be waited for by reading.
	waitSize = 2 << 10

	// A direction is bulk, and worth a pipe, once it has moved bulkFrom bytes
	// without a wait, until it moves fewer than bulkFloor between two waits.
	// (Measured: from about 32 KiB splicing costs less than copying.)
	bulkFrom  = bufferSize
	bulkFloor = 32 << 10
)

type (
	buffer     [bufferSize]byte
	waitBuffer [waitSize]byte
)

// process is shared by all sessions of the process: the kernel's allowance of
// pipes is one for all, so their bound has to be. Unused, it holds nothing.
var process = newEngine()

// engine holds what sessions share, and the limits that tests vary.
type engine struct {
	buffers             sync.Pool // of *buffer
	waits               sync.Pool // of *waitBuffer
	copyings            sync.Pool // of *copying
	pipes               pipePool
	lot                 parkingLot
	bulkFrom, bulkFloor int
}

func newEngine() *engine {
	e := &engine{bulkFrom: bulkFrom, bulkFloor: bulkFloor}
	e.buffers.New = func() any { return new(buffer) }
	e.waits.New = func() any { return new(waitBuffer) }
	e.copyings.New = newCopying
	e.pipes.init()
	e.lot.init()
	return e
}

func (e *engine) session(client, destination net.Conn, c *Counters, done func(error)) *Session {
	if c == nil {
		c = new(Counters)
	}
	s := &Session{engine: e, done: done}
	s.ends[Client].init(client)
	s.ends[Destination].init(destination)
	s.up.init(s, Client, Destination, &c.Up)
	s.down.init(s, Destination, Client, &c.Down)
	return s
}
