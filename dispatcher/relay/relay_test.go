package relay

import (
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"dispatch/testdata/loopback"
)

// transfer streams so many bytes of a pattern through one direction, and returns the
// checksums of what was sent and of what came.
func transfer(tb testing.TB, from, to *app, seed uint64, size int64) {
	tb.Helper()
	must(tb, from.conn.SetWriteDeadline(time.Now().Add(loopback.Patience)))
	must(tb, to.conn.SetReadDeadline(time.Now().Add(loopback.Patience)))
	sent, got := sha256.New(), sha256.New()
	failed := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.MultiWriter(from.conn, sent), io.LimitReader(newStream(seed), size))
		failed <- err
	}()
	if n, err := io.Copy(got, io.LimitReader(to.conn, size)); n != size || err != nil {
		tb.Errorf("got %d of %d bytes: %v", n, size, err)
	}
	if err := <-failed; err != nil {
		tb.Errorf("sending: %v", err)
	}
	if [32]byte(sent.Sum(nil)) != [32]byte(got.Sum(nil)) {
		tb.Error("got other bytes than were sent")
	}
}

func TestLargeTransferBothWays(t *testing.T) {
	const size = 50 << 20
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			r := newRig(t, m.engine(), m.near, m.far)
			var both sync.WaitGroup
			both.Go(func() { transfer(t, r.client, r.server, 1, size) })
			both.Go(func() { transfer(t, r.server, r.client, 2, size) })
			both.Wait()
			r.client.fin()
			r.server.getsFIN(0)
			r.server.fin()
			r.client.getsFIN(0)
			r.endsClean()
			r.counted(size, size)
		})
	}
}

func TestCountersAreLive(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			r := newRig(t, m.engine(), m.near, m.far)
			for i := range int64(4) {
				r.client.send(pattern(1, 1000))
				r.server.gets(pattern(1, 1000))
				r.counted((i+1)*1000, i*300_000)
				r.server.send(pattern(2, 300_000))
				r.client.gets(pattern(2, 300_000))
				r.counted((i+1)*1000, (i+1)*300_000)
			}
		})
	}
}

// TestCountersOfAStalledFlow checks that what waits in a buffer or a pipe, and
// never gets further, is not counted.
func TestCountersOfAStalledFlow(t *testing.T) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			r := newRig(t, m.engine(), m.near, m.far)
			poured := r.server.pour()
			last := int64(-1)
			loopback.Eventually(t, "the flow to stall", func() bool {
				now := r.counters.Down.Load()
				stalled := now > 0 && now == last
				last = now
				time.Sleep(20 * time.Millisecond)
				return stalled
			})
			r.server.reset()
			<-poured //nolint:errcheck // only its end is waited for
			// The reset is passed on when the client stops taking, so it gets
			// all that was counted, if it reads by then.
			n, err := r.client.rest()
			if !loopback.IsBroken(err) {
				t.Errorf("the client saw %v, want a reset", err)
			}
			r.endsReset(Destination)
			if counted := r.counters.Down.Load(); runtime.GOOS == "linux" && counted != n {
				t.Errorf("counted %d bytes, the client got %d", counted, n)
			}
		})
	}
}

func TestNilCounters(t *testing.T) {
	client, near := loopback.Pair(t)
	far, server := loopback.Pair(t)
	ended := make(chan error, 1)
	NewEngine().Relay(near, far, nil, func(err error) { ended <- err }).Start()
	a, b := plain(t, client), plain(t, server)
	a.send([]byte("ping"))
	b.gets([]byte("ping"))
	a.fin()
	b.getsFIN(0)
	b.fin()
	a.getsFIN(0)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestForcedEnd(t *testing.T) {
	ends := []struct {
		name  string
		close func(r *rig)
	}{
		{"client", func(r *rig) { r.near.Close(); r.relay.Wake() }},
		{"destination", func(r *rig) { r.far.Close(); r.relay.Wake() }},
		{"both", func(r *rig) { r.near.Close(); r.far.Close(); r.relay.Wake() }},
	}
	states := []struct {
		name    string
		prepare func(r *rig) (done func())
	}{
		{"idle", func(*rig) func() { return func() {} }},
		{"half-closed", func(r *rig) func() {
			r.client.fin()
			r.server.getsFIN(0)
			return func() {}
		}},
		{"flowing", func(r *rig) func() {
			poured := r.server.pour()
			r.client.gets(make([]byte, 300_000))
			return func() { <-poured } //nolint:errcheck // only its end is waited for
		}},
	}
	for _, m := range modes {
		for _, state := range states {
			for _, end := range ends {
				if state.name == "flowing" && end.name != "both" {
					continue // a stalled flow would not notice, as documented
				}
				t.Run(m.name+"/"+state.name+"/"+end.name, func(t *testing.T) {
					t.Parallel()
					r := newRig(t, m.engine(), m.near, m.far)
					done := state.prepare(r)
					end.close(r)
					began := time.Now()
					err := r.end()
					var e *Error
					if !errors.Is(err, net.ErrClosed) || !errors.As(err, &e) {
						t.Errorf("the relay ended with %v, want an *Error that is net.ErrClosed", err)
					}
					if took := time.Since(began); took > loopback.Patience/4 {
						t.Errorf("the end took %v", took)
					}
					must(t, r.client.tcp.Close())
					must(t, r.server.tcp.Close())
					done()
				})
			}
		}
	}
}

// TestForcedEndResetsTheOther checks that a shutdown does not look like a
// complete transfer to the side that was not closed by the caller.
func TestForcedEndResetsTheOther(t *testing.T) {
	r := newRig(t, NewEngine(), whole, whole)
	r.server.send(pattern(1, 1000))
	r.client.gets(pattern(1, 1000))
	must(t, r.far.Close())
	r.relay.Wake()
	r.client.getsReset(0)
	if err := r.end(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// TestForcedEndWaitsForNobody has bytes on their way to a client who reads none.
func TestForcedEndWaitsForNobody(t *testing.T) {
	const size = 400_000
	r := newRig(t, NewEngine(), whole, whole)
	r.server.send(pattern(1, size))
	r.counted(0, size)
	began := time.Now()
	must(t, r.far.Close())
	r.relay.Wake()
	if err := r.end(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if took := time.Since(began); took >= patienceReset {
		t.Errorf("the end took %v", took)
	}
}

func TestManySessionsAtOnce(t *testing.T) {
	const sessions, rounds = 200, 5
	engines := []*Engine{NewEngine(), NewEngine(), parkingEngine()}
	var all sync.WaitGroup
	for i := range sessions {
		r := newRig(t, engines[i%len(engines)], modes[i%2*3].near, modes[i%2*3].far)
		all.Go(func() {
			var up, down int64
			for round := range rounds {
				a := pattern(uint64(i), 1+(i*7919+round*104729)%40_000)
				b := pattern(uint64(round), 1+(i*104729+round*7919)%40_000)
				r.client.send(a)
				r.server.gets(a)
				r.server.send(b)
				r.client.gets(b)
				up, down = up+int64(len(a)), down+int64(len(b))
			}
			first, second := r.client, r.server
			if i%3 == 0 {
				first, second = second, first
			}
			first.fin()
			second.getsFIN(0)
			second.fin()
			first.getsFIN(0)
			r.endsClean()
			r.counted(up, down)
		})
	}
	all.Wait()
}

// TestIdleHoldsNothing weighs idle sessions: a buffer for each direction would
// be 128 KiB.
func TestIdleHoldsNothing(t *testing.T) {
	const sessions = 300
	e := NewEngine()
	rigs := make([]*rig, sessions)
	began := inUse()
	for i := range rigs {
		r := newRig(t, e, whole, whole)
		r.client.send([]byte{1})
		r.server.gets([]byte{1})
		r.server.send([]byte{2})
		r.client.gets([]byte{2})
		rigs[i] = r
	}
	for _, r := range rigs {
		r.counted(1, 1)
	}
	if each := (inUse() - began) / sessions; each > 24<<10 {
		t.Errorf("an idle session, with its applications, uses %d bytes", each)
	}
	runtime.KeepAlive(rigs)
}

func inUse() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}

// TestStaleDeadline checks that a deadline that was left on a connection is no
// FIN either.
func TestStaleDeadline(t *testing.T) {
	r := newRig(t, NewEngine(), whole, whole)
	must(t, r.near.SetReadDeadline(time.Now()))
	r.server.getsReset(0)
	if err := r.end(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the relay ended with %v, want the deadline's error", err)
	}
}

func TestErrorText(t *testing.T) {
	err := error(&Error{Side: Destination, Op: "read", Err: io.ErrUnexpectedEOF})
	if got, want := err.Error(), "relay: read destination: unexpected EOF"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("the cause is lost")
	}
	if Client.String() != "client" {
		t.Error(Client.String())
	}
}
