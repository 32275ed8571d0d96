package relay

import "sync"

const (
	// bufferSize is what one read moves at most. Smaller ones cost more for
	// each byte, larger ones more for each receiver that is slow to take it.
	bufferSize = 64 << 10
	// waitSize is what is held while a stream is waited for that can only be
	// waited for by reading.
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

// Engine makes relays, and holds what they share: buffers, pipes, and the watch over
// those that are idle. A program has one, for the kernel's allowance of pipes is one
// for all of it. Unused, it holds nothing, and there is nothing to close.
type Engine struct {
	buffers             sync.Pool // of *buffer
	waits               sync.Pool // of *waitBuffer
	copyings            sync.Pool // of *copying
	pipes               pipePool
	lot                 parkingLot
	bulkFrom, bulkFloor int // what tests vary
}

// NewEngine makes an Engine.
func NewEngine() *Engine {
	e := &Engine{bulkFrom: bulkFrom, bulkFloor: bulkFloor}
	e.buffers.New = func() any { return new(buffer) }
	e.waits.New = func() any { return new(waitBuffer) }
	e.copyings.New = newCopying
	e.pipes.init()
	e.lot.init()
	return e
}

// Relay makes a relay that copies both ways between client and destination, from
// [Relay.Start] on. When both directions have ended it closes both streams and then
// calls done, once, on a goroutine of its own. Nil counters mean that nothing is
// counted.
//
// done gets nil when both directions ended with a FIN, and otherwise the first
// error, as an [*Error]. To force the end, close one of the streams or both and
// call [Relay.Wake]: done is then called promptly, with an error that is
// [net.ErrClosed]. ([Reset] one, rather than close it, if its peer is to see that the
// session was not complete: a plain Close is a FIN.) If only one is closed, the
// other is reset as soon as that is noticed: which it is not while that one is
// stalled. A panic of a stream's methods resets both and is told to done, as
// a [*PanicError].
//
// Deadlines of the streams are the relay's to set: clear them before.
func (e *Engine) Relay(client, destination Stream, c *Counters, done func(error)) *Relay {
	if c == nil {
		c = new(Counters)
	}
	r := &Relay{engine: e, done: done}
	r.ends[Client].init(client)
	r.ends[Destination].init(destination)
	r.up.init(r, Client, Destination, &c.Up)
	r.down.init(r, Destination, Client, &c.Down)
	return r
}
