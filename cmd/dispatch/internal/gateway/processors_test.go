package gateway

import (
	"log/slog"
	"runtime"
	"testing"
	"time"
)

func TestProcessorsFollowTheLoad(t *testing.T) {
	var p processors
	at := time.Now()
	for n, step := range []struct {
		after time.Duration
		load  float64
		all   bool
	}{
		{0, 0, false},
		{busyEvery, 0.5, false},
		{busyEvery, 0.9, true}, // at once
		{busyEvery, 0.7, true}, // neither busy nor calm
		{busyEvery, 0.1, true}, // calm from here on
		{calmFor - busyEvery, 0.1, true},
		{busyEvery, 0.7, true}, // not calm any more
		{calmFor, 0.1, true},
		{calmFor, 0.1, false},
		{busyEvery, 0.8, false},
		{busyEvery, 1.9, true},
		{busyEvery, 0.1, true}, // calm has to last anew
		{calmFor, 0, false},
	} {
		at = at.Add(step.after)
		if got := p.decide(step.load, at); got != step.all {
			t.Fatalf("step %d, load %.1f: all %t", n, step.load, got)
		}
	}
}

// The process's CPU time grows by what is worked, and by no more than all processors can give.
func TestProcessTime(t *testing.T) {
	before, err := processTime()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for time.Since(began) < 50*time.Millisecond {
		if now, err := processTime(); err != nil || now < before {
			t.Fatalf("%v after %v, %v", now, before, err)
		}
	}
	after, err := processTime()
	if err != nil || after <= before || after-before > time.Duration(runtime.NumCPU())*time.Since(began)+100*time.Millisecond {
		t.Fatalf("%v more in %v, %v", after-before, time.Since(began), err)
	}
}

// One processor while nothing happens, and the usual number again afterwards.
func TestAdaptProcessors(t *testing.T) {
	usual := runtime.GOMAXPROCS(0)
	if usual == 1 {
		t.Log("THIS MACHINE HAS ONE PROCESSOR: there is nothing to adapt")
		return
	}
	t.Setenv("GOMAXPROCS", "")
	stop := AdaptProcessors(slog.New(slog.DiscardHandler))
	if now := runtime.GOMAXPROCS(0); now != 1 {
		t.Errorf("%d processors while nothing happens", now)
	}
	stop()
	if now := runtime.GOMAXPROCS(0); now != usual {
		t.Errorf("%d processors afterwards, %d before", now, usual)
	}
	t.Setenv("GOMAXPROCS", "2")
	defer AdaptProcessors(slog.New(slog.DiscardHandler))()
	if now := runtime.GOMAXPROCS(0); now != usual {
		t.Errorf("the user's choice was changed from %d to %d", usual, now)
	}
}
