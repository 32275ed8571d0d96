package gateway

import (
	"log/slog"
	"os"
	"runtime"
	"time"
)

// A gateway mostly waits. With several processors each wait that ends makes Go's scheduler wake a further thread to
// look for more to do: on a machine with two, a connection costs half as much again by that. So the gateway runs on
// one processor until that is busy, and on all while they are of use.
const (
	// busyShare is the load of the one processor above which all are used, for a short while already: a download that
	// begins must not wait for its speed.
	busyShare = 0.85
	busyEvery = 100 * time.Millisecond
	// calmShare is the load, of one processor, below which one is enough, when it has lasted for calmFor.
	calmShare = 0.6
	calmFor   = 3 * time.Second
	// idleShare is the load below which it is looked at only every idleEvery.
	idleShare = 0.02
	idleEvery = time.Second
)

// AdaptProcessors keeps the number of processors that Go uses in line with the load, until the returned function is
// called, which waits for its end. A user who sets GOMAXPROCS decides alone. It is for a process that is a gateway and
// nothing else.
func AdaptProcessors(log *slog.Logger) (stop func()) {
	if os.Getenv("GOMAXPROCS") != "" || runtime.GOMAXPROCS(0) == 1 {
		return func() {}
	}
	runtime.GOMAXPROCS(1)
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer runtime.SetDefaultGOMAXPROCS()
		followLoad(log, ended)
	}()
	return func() {
		close(ended)
		<-done
	}
}

func followLoad(log *slog.Logger, ended <-chan struct{}) {
	var p processors
	timer := time.NewTimer(busyEvery)
	defer timer.Stop()
	used, at := usedTime(log), time.Now()
	for {
		select {
		case <-ended:
			return
		case <-timer.C:
		}
		nowUsed, now := usedTime(log), time.Now()
		load := float64(nowUsed-used) / float64(now.Sub(at))
		used, at = nowUsed, now
		if before := p.all; p.decide(load, now) != before {
			if p.all {
				runtime.SetDefaultGOMAXPROCS()
			} else {
				runtime.GOMAXPROCS(1)
			}
		}
		if load < idleShare && !p.all {
			timer.Reset(idleEvery)
		} else {
			timer.Reset(busyEvery)
		}
	}
}

// processors decides between one processor and all.
type processors struct {
	all       bool
	calmSince time.Time
}

// decide takes in the load since the last call, in processors, and returns whether all are to be used.
func (p *processors) decide(load float64, now time.Time) bool {
	switch {
	case load > busyShare:
		p.all, p.calmSince = true, time.Time{}
	case load > calmShare:
		p.calmSince = time.Time{}
	case p.all && p.calmSince.IsZero():
		p.calmSince = now
	case p.all && now.Sub(p.calmSince) >= calmFor:
		p.all = false
	}
	return p.all
}

// usedTime is the time that this process has spent on processors; 0 when the system does not tell, which makes the
// load 0.
func usedTime(log *slog.Logger) time.Duration {
	used, err := processTime()
	if err != nil {
		log.Debug("reading the process's CPU time failed", "error", err)
		return 0
	}
	return used
}
