package dispatcher

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestAlarmsGoOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var a alarms
		began := time.Now()
		var rung sync.WaitGroup
		for _, d := range []time.Duration{0, time.Millisecond, alarmTick, 250 * time.Millisecond, 30 * time.Second} {
			rung.Add(1)
			a.after(d, new(alarm), func() {
				defer rung.Done()
				if late := time.Since(began) - d; late < 0 || late > alarmTick {
					t.Errorf("%v: %v late", d, late)
				}
			})
		}
		rung.Wait()
		time.Sleep(2 * alarmTick)
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.ticks || len(a.set) > 0 {
			t.Errorf("it ticks on, %d alarms left", len(a.set))
		}
	})
}

func TestAlarmsAreCleared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var a alarms
		var rung atomic.Int32
		set := make([]alarm, 5)
		for n := range set {
			a.after(time.Second, &set[n], func() { rung.Add(1) })
		}
		a.clear(&set[0])
		a.clear(&set[4])
		a.clear(&set[2])
		a.clear(&set[2]) // harmless
		time.Sleep(2 * time.Second)
		if n := rung.Load(); n != 2 {
			t.Errorf("%d alarms went off, of 2 that were left", n)
		}
		a.clear(&set[1]) // too late
		// They can be set again.
		a.after(time.Second, &set[1], func() { rung.Add(1) })
		time.Sleep(2 * time.Second)
		if n := rung.Load(); n != 3 {
			t.Errorf("the alarm that was set again: %d in all, want 3", n)
		}
	})
}

func TestAlarmsTogether(t *testing.T) {
	t.Parallel()
	var a alarms
	var rung atomic.Int32
	var setters sync.WaitGroup
	for range 8 {
		setters.Go(func() {
			for range 500 {
				var one alarm
				a.after(time.Minute, &one, func() { rung.Add(1) })
				a.clear(&one)
			}
		})
	}
	setters.Wait()
	if len(a.set) != 0 || rung.Load() != 0 {
		t.Errorf("%d alarms left, %d went off", len(a.set), rung.Load())
	}
}
