package relay

import (
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dispatch/testdata/loopback"
)

func (l *parkingLot) hasten() { l.sweeps.every = time.Millisecond }

// isQuiet tells whether nobody has a goroutine, and how many are parked.
func (l *parkingLot) isQuiet() (quiet bool, parked int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.awake == nil, len(l.parked)
}

// isParked tells whether both directions are parked, but for those that have ended.
func (r *rig) isParked() bool {
	s := r.relay
	stands := func(f *flow) bool {
		s.mu.Lock()
		over := f.ended && f.failure != nil
		s.mu.Unlock()
		s.engine.lot.mu.Lock()
		defer s.engine.lot.mu.Unlock()
		return over || f.number != 0
	}
	return stands(&s.up) && stands(&s.down)
}

func (r *rig) park() {
	r.tb.Helper()
	loopback.Eventually(r.tb, "the session to be parked", r.isParked)
}

// TestParkedEndings has every event meet a session that is parked.
func TestParkedEndings(t *testing.T) {
	scripts := map[string]func(r *rig){
		"FIN, FIN": func(r *rig) {
			r.client.fin()
			r.server.getsFIN(0)
			r.park()
			r.server.send(pattern(1, 100_000))
			r.client.gets(pattern(1, 100_000))
			r.park()
			r.server.fin()
			r.client.getsFIN(0)
			r.endsClean()
			r.counted(5, 100_005)
		},
		"both FIN at once": func(r *rig) {
			r.client.fin()
			r.server.fin()
			r.client.getsFIN(0)
			r.server.getsFIN(0)
			r.endsClean()
		},
		"data and FIN": func(r *rig) {
			r.server.send(pattern(1, 100_000))
			r.server.fin()
			r.client.getsFIN(100_000)
			r.park()
			r.client.fin()
			r.server.getsFIN(0)
			r.endsClean()
		},
		"reset": func(r *rig) {
			r.server.reset()
			r.client.getsReset(0)
			r.endsReset(Destination)
		},
		"FIN, reset": func(r *rig) {
			r.client.fin()
			r.server.getsFIN(0)
			r.park()
			r.client.reset()
			r.server.broken()
			r.endsReset(Client)
		},
		"FIN, reset of the other": func(r *rig) {
			r.client.fin()
			r.server.getsFIN(0)
			r.park()
			r.server.reset()
			r.client.getsReset(0)
			r.endsReset(Destination)
		},
		"closed": func(r *rig) {
			must(r.tb, r.nearTCP.SetLinger(0))
			must(r.tb, r.nearTCP.Close())
			r.relay.Wake()
			r.client.getsReset(0)
			r.server.getsReset(0)
			if err := r.end(); !errors.Is(err, net.ErrClosed) {
				r.tb.Errorf("ended with %v, want net.ErrClosed", err)
			}
		},
		"half-closed and closed": func(r *rig) {
			r.server.fin()
			r.client.getsFIN(0)
			r.park()
			must(r.tb, r.farTCP.Close())
			r.relay.Wake()
			r.client.broken()
			if err := r.end(); !errors.Is(err, net.ErrClosed) {
				r.tb.Errorf("ended with %v, want net.ErrClosed", err)
			}
		},
	}
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, parkingEngine(), whole, whole)
			r.client.send([]byte("hello"))
			r.server.gets([]byte("hello"))
			r.server.send([]byte("world"))
			r.client.gets([]byte("world"))
			r.park()
			script(r)
			loopback.Eventually(t, "the lot to be empty", func() bool {
				quiet, parked := r.relay.engine.lot.isQuiet()
				return quiet && parked == 0
			})
		})
	}
}

// TestParkedBesideAWrapper parks the one direction whose source can be watched.
func TestParkedBesideAWrapper(t *testing.T) {
	client, near := loopback.Pair(t)
	far, server := loopback.Pair(t)
	r := &rig{tb: t, client: plain(t, client), server: plain(t, server), near: &wrapper{tcp: near}, far: far}
	e := parkingEngine()
	r.start(e)
	half := func() bool { quiet, parked := e.lot.isQuiet(); return quiet && parked == 1 }
	loopback.Eventually(t, "one direction to be parked", half)
	r.server.send([]byte("hello"))
	r.client.gets([]byte("hello"))
	loopback.Eventually(t, "it to be parked again", half)
	r.client.reset()
	r.server.getsReset(0)
	r.endsReset(Client)
}

// TestParkedCostsNothing counts what is exact: goroutines and descriptors.
func TestParkedCostsNothing(t *testing.T) {
	const sessions = 100
	e := parkingEngine()
	goroutines, open := runtime.NumGoroutine(), loopback.Descriptors(t)
	rigs := make([]*rig, sessions)
	for i := range rigs {
		rigs[i] = newRig(t, e, whole, whole)
	}
	parked := func() bool {
		quiet, n := e.lot.isQuiet()
		return quiet && n == 2*sessions
	}
	for range 2 {
		loopback.Eventually(t, "all to be parked", parked)
		// One goroutine and one epoll instance watch them all. A session has four
		// descriptors here, with the applications'.
		loopback.Eventually(t, "the goroutines to end", func() bool { return runtime.NumGoroutine() <= goroutines+1 })
		if now := loopback.Descriptors(t); now > open+4*sessions+1 {
			t.Errorf("%d descriptors for %d sessions", now-open, sessions)
		}
		for _, r := range rigs {
			r.client.send([]byte("hello"))
			r.server.gets([]byte("hello"))
		}
	}
	loopback.Eventually(t, "all to be parked", parked)
	for _, r := range rigs {
		r.client.fin()
		r.server.getsFIN(0)
		r.server.fin()
		r.client.getsFIN(0)
		r.endsClean()
		r.counted(10, 0)
		r.client.conn.Close()
		r.server.conn.Close()
	}
	loopback.Eventually(t, "the descriptors to be closed", func() bool { return loopback.Descriptors(t) <= open })
	loopback.Eventually(t, "the goroutines to end", func() bool { return runtime.NumGoroutine() <= goroutines })
}

// TestNoWakeUpIsLost plays ball with sessions that are parked, or are just being.
func TestNoWakeUpIsLost(t *testing.T) {
	e := parkingEngine()
	var all sync.WaitGroup
	for i := range 20 {
		r := newRig(t, e, whole, whole)
		all.Go(func() {
			random := rand.New(rand.NewPCG(7, uint64(i)))
			ball := make([]byte, 1)
			for round := range 100 {
				time.Sleep(time.Duration(random.Int64N(int64(4 * time.Millisecond))))
				ball[0] = byte(round)
				r.client.send(ball)
				r.server.gets(ball)
				r.server.send(ball)
				r.client.gets(ball)
			}
			r.counted(100, 100)
		})
	}
	all.Wait()
}

// TestClosedWhileBeingParked has sessions closed at the very moment when they are parked, and
// others opened, which get the same descriptors.
func TestClosedWhileBeingParked(t *testing.T) {
	e := parkingEngine()
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(9, uint64(i)))
			for range 20 {
				client, near := loopback.Pair(t)
				far, server := loopback.Pair(t)
				ended := make(chan error, 1)
				s := e.Relay(near, far, nil, func(err error) { ended <- err })
				s.Start()
				a, b := plain(t, client), plain(t, server)
				a.send([]byte("hello"))
				b.gets([]byte("hello"))
				time.Sleep(time.Duration(random.Int64N(int64(4 * time.Millisecond))))
				[]*net.TCPConn{near, far}[random.IntN(2)].Close()
				s.Wake()
				select {
				case err := <-ended:
					if !errors.Is(err, net.ErrClosed) {
						t.Errorf("ended with %v, want net.ErrClosed", err)
					}
				case <-time.After(loopback.Patience):
					t.Error("the relay has not ended")
				}
				client.Close()
				server.Close()
			}
		})
	}
	all.Wait()
	if quiet, parked := e.lot.isQuiet(); !quiet || parked != 0 {
		t.Errorf("%d are still parked, nobody is awake: %t", parked, quiet)
	}
}

// TestStaysAwakeWithoutDescriptors checks that a session goes on when the process may
// open no epoll instance.
func TestStaysAwakeWithoutDescriptors(t *testing.T) {
	r := newRig(t, NewEngine(), whole, whole)
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	none := limit
	none.Cur = 0
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &none))
	defer func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)) }()
	lot := &r.relay.engine.lot
	for range 3 {
		lot.sweep()
		lot.sweep() // the second asks
		loopback.Eventually(t, "the answers", func() bool {
			lot.mu.Lock()
			defer lot.mu.Unlock()
			return !r.relay.up.asked && !r.relay.down.asked
		})
		if _, parked := lot.isQuiet(); parked != 0 {
			t.Fatal("there was a descriptor to be had: nothing is tested")
		}
		r.client.send([]byte("hello"))
		r.server.gets([]byte("hello"))
		r.server.send([]byte("world"))
		r.client.gets([]byte("world"))
	}
	r.server.reset()
	r.client.getsReset(0)
	r.endsReset(Destination)
}

// TestHurriedWhileAsked has a session fail between the lot's asking and a flow's answer: the
// deadline is the session's then, and what the broken side had sent is still handed over.
func TestHurriedWhileAsked(t *testing.T) {
	r := newRig(t, NewEngine(), whole, whole)
	lot, f := &r.relay.engine.lot, &r.relay.down
	lot.mu.Lock()
	f.asked = true
	lot.mu.Unlock()
	by := time.Now().Add(200 * time.Millisecond)
	must(t, lot.hurry(f, by))
	r.server.send([]byte("hello"))
	r.client.gets([]byte("hello"))
	if got := lot.park(f, os.ErrDeadlineExceeded, awaitData); got != retry {
		t.Errorf("the answer is %v, want to wait again", got)
	}
	if got := lot.park(f, os.ErrDeadlineExceeded, awaitData); got != failed {
		t.Errorf("when the hurry is over, the answer is %v, want a failure", got)
	}
	r.client.getsReset(0)
	if err := r.end(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().Before(by) {
		t.Errorf("ended with %v, %v before the time", err, time.Until(by))
	}
}

// TestResetBehindAStalledUpload has a client break its connection while the relay waits for a destination that takes
// nothing more, and may never.
func TestResetBehindAStalledUpload(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]*Engine{"buffered": bufferedEngine(), "spliced": splicedEngine()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, e, whole, whole)
			poured := r.client.pour()
			before, at := int64(-1), time.Now()
			loopback.Eventually(t, "the upload to stall", func() bool {
				if up := r.relay.up.moved.Load(); up != before {
					before, at = up, time.Now()
				}
				return time.Since(at) > 300*time.Millisecond
			})
			r.client.reset()
			if err := <-poured; err == nil {
				t.Error("the client poured on")
			}
			r.endsReset(Client)
			r.server.getsReset(0)
		})
	}
}

// TestHalfOpenUploadIsNotBroken has a client that is gone as it should be: both sides have said all, and the destination
// takes its time to read.
func TestHalfOpenUploadIsNotBroken(t *testing.T) {
	t.Parallel()
	r := newRig(t, parkingEngine(), whole, whole)
	r.server.fin()
	r.client.getsFIN(0)
	data := pattern(3, 8<<20)
	go func() {
		r.client.send(data)
		r.client.fin()
	}()
	time.Sleep(500 * time.Millisecond)
	r.server.gets(data)
	r.server.getsFIN(0)
	r.endsClean()
}
