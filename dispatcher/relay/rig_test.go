package relay

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"dispatch/testdata/loopback"
)

// mode is a way of copying that a test asks for.
type mode struct {
	name      string
	engine    func() *Engine
	near, far wrap
}

// wrap makes the streams of an application and of the relay out of the two ends of
// a connection.
type wrap func(tb testing.TB, outer, inner *net.TCPConn) (app, relay Stream)

func whole(_ testing.TB, outer, inner *net.TCPConn) (app, relay Stream) { return outer, inner }

func wrapped(_ testing.TB, outer, inner *net.TCPConn) (app, relay Stream) {
	return outer, &wrapper{tcp: inner}
}

var modes = []mode{
	{"default", NewEngine, whole, whole},
	{"buffered", bufferedEngine, whole, whole},
	{"spliced", splicedEngine, whole, whole},
	{"fallback", NewEngine, wrapped, wrapped},
	{"parked", parkingEngine, whole, whole},
	{"TLS line", parkingEngine, whole, tlsServer(tls.VersionTLS13)},
	{"TLS client", parkingEngine, tlsClient(tls.VersionTLS12), whole},
	{"TLS both", NewEngine, tlsClient(tls.VersionTLS13), tlsServer(tls.VersionTLS12)},
}

// bufferedEngine never takes a pipe.
func bufferedEngine() *Engine {
	e := NewEngine()
	e.bulkFrom = 1 << 62
	return e
}

// splicedEngine takes one for the first byte, where there are pipes.
func splicedEngine() *Engine {
	e := NewEngine()
	e.bulkFrom, e.bulkFloor = 0, 0
	return e
}

// parkingEngine parks, where it can, whoever waits for a moment.
func parkingEngine() *Engine {
	e := NewEngine()
	e.lot.hasten()
	return e
}

// wrapper is a connection whose type says nothing, as of a package that counts
// or replays: it can be half-closed, and shows what it wraps.
type wrapper struct {
	tcp    *net.TCPConn
	closes atomic.Int32
}

func (w *wrapper) Read(b []byte) (int, error)         { return w.tcp.Read(b) }
func (w *wrapper) Write(b []byte) (int, error)        { return w.tcp.Write(b) }
func (w *wrapper) LocalAddr() net.Addr                { return w.tcp.LocalAddr() }
func (w *wrapper) RemoteAddr() net.Addr               { return w.tcp.RemoteAddr() }
func (w *wrapper) SetDeadline(t time.Time) error      { return w.tcp.SetDeadline(t) }
func (w *wrapper) SetReadDeadline(t time.Time) error  { return w.tcp.SetReadDeadline(t) }
func (w *wrapper) SetWriteDeadline(t time.Time) error { return w.tcp.SetWriteDeadline(t) }
func (w *wrapper) CloseWrite() error                  { return w.tcp.CloseWrite() }
func (w *wrapper) NetConn() net.Conn                  { return w.tcp }
func (w *wrapper) Close() error {
	w.closes.Add(1)
	return w.tcp.Close()
}

// rig is a session under test, with the two applications.
type rig struct {
	tb             testing.TB
	client, server *app
	near, far      Stream // what the relay has: to the client, to the server
	nearTCP        *net.TCPConn
	farTCP         *net.TCPConn
	counters       Counters
	ended          chan error
	relay          *Relay
}

func newRig(tb testing.TB, e *Engine, near, far wrap) *rig {
	tb.Helper()
	clientTCP, nearTCP := loopback.Pair(tb)
	farTCP, serverTCP := loopback.Pair(tb)
	r := &rig{tb: tb, nearTCP: nearTCP, farTCP: farTCP}
	r.client, r.server = &app{tb: tb, tcp: clientTCP}, &app{tb: tb, tcp: serverTCP}
	r.client.conn, r.near = near(tb, clientTCP, nearTCP)
	r.server.conn, r.far = far(tb, serverTCP, farTCP)
	r.start(e)
	return r
}

func (r *rig) start(e *Engine) {
	r.ended = make(chan error, 1)
	r.relay = e.Relay(r.near, r.far, &r.counters, func(err error) { r.ended <- err })
	r.relay.Start()
	r.tb.Cleanup(func() {
		r.near.Close()
		r.far.Close()
		r.relay.Wake()
	})
}

// end waits for the session to end, and returns its error.
func (r *rig) end() error {
	r.tb.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(loopback.Patience):
		r.tb.Fatal("the relay has not ended")
		return nil
	}
}

// endsClean expects both directions to have ended with a FIN.
func (r *rig) endsClean() {
	r.tb.Helper()
	if err := r.end(); err != nil {
		r.tb.Errorf("the session ended with %v, want nil", err)
	}
}

// endsReset expects a reset by that side to have ended the session.
func (r *rig) endsReset(side Side) {
	r.tb.Helper()
	err := r.end()
	var e *Error
	if !errors.As(err, &e) || e.Side != side || !loopback.IsBroken(e.Err) {
		r.tb.Errorf("the session ended with %v, want a reset of the %v", err, side)
	}
}

// stall sends to the client, who reads nothing, until the relay is stuck, and
// returns how much it was. All of it is with the relay or beyond it.
func (r *rig) stall() (sent int64) {
	r.tb.Helper()
	must(r.tb, r.client.tcp.SetReadBuffer(32<<10))
	must(r.tb, r.nearTCP.SetWriteBuffer(32<<10))
	must(r.tb, r.farTCP.SetReadBuffer(1<<20))
	piece := make([]byte, 8<<10)
	loopback.Eventually(r.tb, "the relay to stall", func() bool {
		r.server.send(piece)
		sent += int64(len(piece))
		loopback.Eventually(r.tb, "a piece to arrive", func() bool { return queued(r.server.tcp) == 0 })
		counted := r.counters.Down.Load()
		if counted == sent {
			return false
		}
		time.Sleep(20 * time.Millisecond)
		return counted == r.counters.Down.Load()
	})
	return sent
}

// pour sends zeros from an application until that fails, and then says how.
func (a *app) pour() (failure <-chan error) {
	failed := make(chan error, 1)
	go func() {
		data := make([]byte, 64<<10)
		for {
			if _, err := a.conn.Write(data); err != nil {
				failed <- err
				return
			}
		}
	}()
	return failed
}

// getsResetWhilePouring expects a reset, and no FIN before it, of an application
// that is sending: its kernel tells of the reset only once, to the side that
// asks first, and to that one it is EPIPE (on Linux) if a FIN had come before.
func (a *app) getsResetWhilePouring(poured <-chan error) {
	a.tb.Helper()
	n, read := a.rest()
	write := <-poured
	if !loopback.IsReset(read) && !loopback.IsReset(write) {
		a.tb.Errorf("got %d bytes and then %v, and sending failed with %v: want a reset", n, read, write)
	}
}

// counted expects exact counts.
func (r *rig) counted(up, down int64) {
	r.tb.Helper()
	loopback.Eventually(r.tb, "the counts", func() bool {
		return r.counters.Up.Load() == up && r.counters.Down.Load() == down
	})
}

// app is an application at one end.
type app struct {
	tb   testing.TB
	conn Stream
	tcp  *net.TCPConn // that it is or wraps
}

// plain is an application whose stream is the TCP connection.
func plain(tb testing.TB, conn *net.TCPConn) *app { return &app{tb, conn, conn} }

// send writes all of data.
func (a *app) send(data []byte) {
	a.tb.Helper()
	must(a.tb, a.conn.SetWriteDeadline(time.Now().Add(loopback.Patience)))
	_, err := a.conn.Write(data)
	must(a.tb, err)
}

// fin half-closes.
func (a *app) fin() {
	a.tb.Helper()
	must(a.tb, a.conn.CloseWrite())
}

// reset breaks the connection.
func (a *app) reset() {
	a.tb.Helper()
	must(a.tb, loopback.Reset(a.tcp))
}

// gets reads so many bytes as want has, and compares.
func (a *app) gets(want []byte) {
	a.tb.Helper()
	must(a.tb, a.conn.SetReadDeadline(time.Now().Add(loopback.Patience)))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(a.conn, got); err != nil {
		a.tb.Fatalf("got %d bytes of %d, then %v", n, len(want), err)
	}
	if string(got) != string(want) {
		a.tb.Fatal("got other bytes than were sent")
	}
}

// rest reads to the end, and returns what came and how it ended: nil for a FIN.
func (a *app) rest() (int64, error) {
	a.tb.Helper()
	must(a.tb, a.conn.SetReadDeadline(time.Now().Add(loopback.Patience)))
	return io.Copy(io.Discard, a.conn)
}

// getsFIN expects so many bytes and then a FIN.
func (a *app) getsFIN(want int64) {
	a.tb.Helper()
	if n, err := a.rest(); err != nil || n != want {
		a.tb.Errorf("got %d bytes and then %v, want %d and a FIN", n, err, want)
	}
	if notified, known := sawCloseNotify(a.conn); known && !notified {
		a.tb.Error("the end came without a close_notify")
	}
}

// getsReset expects at least so many bytes and then a reset. It returns how many
// there were.
func (a *app) getsReset(least int64) int64 {
	a.tb.Helper()
	n, err := a.rest()
	if !loopback.IsBroken(err) || n < least {
		a.tb.Errorf("got %d bytes and then %v, want %d and a reset", n, err, least)
	}
	if notified, known := sawCloseNotify(a.conn); known && notified {
		a.tb.Error("the reset came behind a close_notify")
	}
	return n
}

// broken expects that sending fails, now or soon, because of a reset.
func (a *app) broken() {
	a.tb.Helper()
	must(a.tb, a.conn.SetWriteDeadline(time.Now().Add(loopback.Patience)))
	for {
		_, err := a.conn.Write([]byte{0})
		if err == nil {
			time.Sleep(time.Millisecond)
			continue
		}
		if !loopback.IsBroken(err) {
			a.tb.Errorf("sending failed with %v, want a reset", err)
		}
		return
	}
}

// pattern returns bytes that differ with the seed.
func pattern(seed uint64, size int) []byte {
	data := make([]byte, size)
	io.ReadFull(newStream(seed), data) //nolint:errcheck // never fails
	return data
}

// newStream returns an endless reproducible stream. Its period fits in no buffer
// or pipe a whole number of times, so a lost or doubled piece shows.
func newStream(seed uint64) *byteStream {
	const period = 1<<16 - 15
	block := make([]byte, period+7)
	state := seed*2 + 1
	for i := 0; i < period; i += 8 {
		state = state*6364136223846793005 + 1442695040888963407
		binary.LittleEndian.PutUint64(block[i:], state^state>>33)
	}
	return &byteStream{block: block[:period]}
}

type byteStream struct {
	block []byte
	at    int
}

func (s *byteStream) Read(p []byte) (int, error) {
	n := copy(p, s.block[s.at:])
	s.at = (s.at + n) % len(s.block)
	return n, nil
}
