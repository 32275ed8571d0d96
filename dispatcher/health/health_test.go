package health

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noLines are three uplinks on interfaces that do not exist: a check of one fails before anything is sent.
func noLines(t *testing.T) (*uplink.Fleet, *machine.Table) {
	t.Helper()
	table := &machine.Table{List: func() ([]machine.Interface, error) {
		var all []machine.Interface
		for n, prefix := range []string{"198.51.100.2/24", "203.0.113.2/24", "100.64.2.2/24"} {
			all = append(all, machine.Interface{
				Index: 4000 + n, Name: fmt.Sprintf("nowhere%d", n), Up: true,
				Addresses:     []machine.Address{{Prefix: netip.MustParsePrefix(prefix)}},
				DefaultRoutes: []machine.DefaultRoute{{Family: uplink.IPv4, Router: netip.MustParsePrefix(prefix).Addr().Next()}},
			})
		}
		return all, nil
	}}
	specs, err := uplink.ParseSpecs([]string{"nowhere0", "nowhere1", "nowhere2"})
	if err != nil {
		t.Fatal(err)
	}
	set, err := uplink.NewFleet(table, specs)
	if err != nil {
		t.Fatal(err)
	}
	return set, table
}

// bench is a Monitor with what it told.
type bench struct {
	*Monitor
	t   *testing.T
	set *uplink.Fleet

	mu   sync.Mutex
	told []Status
}

func watch(t *testing.T, set *uplink.Fleet, probes ...Probe) *bench {
	t.Helper()
	b := &bench{t: t, set: set}
	b.Monitor = New(Config{Uplinks: set.Uplinks()})
	b.Start(probes, nil, func(s Status) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.told = append(b.told, s)
	})
	t.Cleanup(b.Close)
	view, err := set.View()
	if err != nil {
		t.Fatal(err)
	}
	b.Kernel(view)
	return b
}

var (
	destinationA = netip.MustParseAddrPort("192.0.2.1:443")
	destinationB = netip.MustParseAddrPort("192.0.2.2:443")
	destinationC = netip.MustParseAddrPort("192.0.2.3:443")
)

func (b *bench) report(line int, to netip.AddrPort, f uplink.Failure) {
	b.reportAfter(300*time.Millisecond, line, to, f)
}

func (b *bench) reportAfter(took time.Duration, line int, to netip.AddrPort, f uplink.Failure) {
	o := uplink.Outcome{Uplink: b.set.Uplinks()[line], Host: to.Addr().String(), Destination: to, Failure: f, Took: took}
	if f != uplink.NoFailure {
		o.Err = errors.New(string(f))
	}
	b.Attempted(o)
}

func (b *bench) overtaken(line int, to netip.AddrPort) {
	b.Attempted(uplink.Outcome{
		Uplink: b.set.Uplinks()[line], Host: to.Addr().String(), Destination: to, Failure: uplink.Canceled, Err: errors.New("canceled"),
		Took: 300 * time.Millisecond, Overtaken: uplink.OvertakenThere,
	})
}

func (b *bench) waitFor(line int, s State) {
	b.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		for _, got := range b.Statuses() {
			if got.Uplink == b.set.Uplinks()[line] && got.State == s {
				return
			}
		}
		if time.Now().After(end) {
			b.t.Fatalf("line %d does not become %s: %+v", line, s, b.Statuses())
		}
	}
}

// avoids fails the test unless exactly these lines are avoided.
func (b *bench) avoids(when string, lines ...int) {
	b.t.Helper()
	var want uplink.IDs
	for _, n := range lines {
		want = want.With(uplink.ID(n))
	}
	if got := b.Bands(uplink.IPv4)[1]; got != want {
		b.t.Errorf("%s: lines %b are avoided, want %b; %+v", when, got, want, b.Statuses())
	}
}

func TestOneDestinationsFailureIsItsOwn(t *testing.T) {
	t.Parallel()
	for _, f := range []uplink.Failure{uplink.TimedOut, uplink.HostUnreachable, uplink.NetworkUnreachable, uplink.Forbidden, uplink.OtherFailure} {
		set, _ := noLines(t)
		b := watch(t, set)
		for range 50 {
			for line := range 3 {
				b.report(line, destinationA, f)
			}
		}
		b.avoids(string(f))
	}
}

func TestRefusalsSpeakForTheLine(t *testing.T) {
	t.Parallel()
	set, _ := noLines(t)
	b := watch(t, set)
	for range 50 {
		b.report(0, destinationA, uplink.TimedOut)
		b.report(0, destinationB, uplink.Refused)
		b.report(0, destinationC, uplink.Reset)
	}
	b.avoids("after refusals")
}

func TestTwoDestinationsMakeALineSuspect(t *testing.T) {
	t.Parallel()
	set, _ := noLines(t)
	b := watch(t, set)
	b.report(1, destinationA, uplink.TimedOut)
	b.report(1, destinationB, uplink.NoFailure)
	b.reportAfter(0, 1, destinationB, uplink.TimedOut)
	b.avoids("a success between two failures")
	b.reportAfter(0, 1, destinationA, uplink.TimedOut)
	b.avoids("two in a row", 1)
	if s := b.Statuses()[1]; s.State == Up || s.Uplink.ID() != 1 || !strings.Contains(s.Reason, "timeout") {
		t.Errorf("status %+v", s)
	}
	b.report(1, destinationC, uplink.NoFailure)
	b.avoids("after a success")
}

// Destinations that are dead, however many, are no line's fault: the lines carry others meanwhile, or none reaches them.
func TestDeadDestinationsAreNoLinesFault(t *testing.T) {
	t.Parallel()
	set, _ := noLines(t)
	b := watch(t, set)
	b.report(1, destinationC, uplink.NoFailure)
	for _, dead := range []netip.AddrPort{destinationA, destinationB} {
		b.reportAfter(30*time.Second, 1, dead, uplink.TimedOut)
	}
	b.avoids("a line that has carried something since they were tried")
	for n := range 6 {
		dead := netip.AddrPortFrom(destinationA.Addr().Next(), uint16(1000+n))
		for line := range 3 {
			o := uplink.Outcome{
				Uplink: b.set.Uplinks()[(n+line)%3], Host: fmt.Sprintf("host%d.test", n), Destination: dead,
				Failure: uplink.TimedOut, Err: errors.New("timeout"),
			}
			b.Attempted(o)
		}
	}
	b.avoids("hosts that no line reaches")
}

// Another line reached the same destination, a moment before or after.
func TestAnotherLinesSuccessSpeaksAgainstALine(t *testing.T) {
	t.Parallel()
	for name, order := range map[string][]func(*bench){
		"before": {
			func(b *bench) { b.report(0, destinationA, uplink.NoFailure) },
			func(b *bench) { b.report(2, destinationA, uplink.HostUnreachable) },
		},
		"after": {
			func(b *bench) { b.report(2, destinationA, uplink.HostUnreachable) },
			func(b *bench) { b.report(0, destinationA, uplink.NoFailure) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set, _ := noLines(t)
			b := watch(t, set)
			order[0](b)
			b.avoids("after the first")
			order[1](b)
			b.avoids("after both", 2)
			b.mu.Lock()
			defer b.mu.Unlock()
			if len(b.told) == 0 || b.told[0].Uplink.ID() != 2 || b.told[0].State != Suspect {
				t.Errorf("told %+v", b.told)
			}
		})
	}
}

// A line that cannot be bound has failed without any destination.
func TestUnusableLineIsSuspectAtOnce(t *testing.T) {
	t.Parallel()
	set, _ := noLines(t)
	b := watch(t, set)
	b.report(0, destinationA, uplink.LineUnusable)
	b.avoids("after one", 0)
}

// What was given up for other reasons says nothing.
func TestCanceledAndExhaustedSayNothing(t *testing.T) {
	t.Parallel()
	set, _ := noLines(t)
	b := watch(t, set)
	for range 10 {
		b.report(0, destinationA, uplink.Canceled)
		b.report(0, destinationB, uplink.Exhausted)
	}
	b.avoids("after ten")
}

// Overtaken attempts alone are held against a line when there were three in a row; a slow line's arrive in the end.
func TestOvertakenAttempts(t *testing.T) {
	t.Parallel()
	set, _ := noLines(t)
	b := watch(t, set)
	b.overtaken(0, destinationA)
	b.overtaken(0, destinationA)
	b.report(0, destinationA, uplink.NoFailure)
	b.overtaken(0, destinationA)
	b.overtaken(0, destinationA)
	b.avoids("twice, and twice")
	b.overtaken(0, destinationA)
	b.avoids("three times", 0)
}

// elsewhere reports an attempt of the first line that was slow, at a host that another line reached at another address.
func (b *bench) elsewhere(host string, to netip.AddrPort) {
	b.Attempted(uplink.Outcome{
		Uplink: b.set.Uplinks()[0], Host: host, Destination: to, Failure: uplink.Canceled, Err: errors.New("canceled"),
		Took: 300 * time.Millisecond, Overtaken: uplink.OvertakenElsewhere,
	})
}

// waitChecks waits until no line is being checked.
func (b *bench) waitChecks() {
	b.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		b.mu.Lock()
		b.Monitor.mu.Lock()
		busy := false
		for f := range b.lines {
			for n := range b.lines[f] {
				busy = busy || b.lines[f][n].checking
			}
		}
		b.Monitor.mu.Unlock()
		b.mu.Unlock()
		if !busy {
			return
		}
		if time.Now().After(end) {
			b.t.Fatal("the checks do not end")
		}
	}
}

// A line that is slow at a host which another one reached at another address is checked: with what works by others, or
// with that address, whose fault it may be, until it is two hosts'.
func TestOvertakenElsewhere(t *testing.T) {
	t.Parallel()
	t.Run("others work", func(t *testing.T) {
		t.Parallel()
		set, _ := noLines(t)
		b := watch(t, set)
		b.report(1, destinationB, uplink.NoFailure)
		b.elsewhere("a", destinationA)
		b.waitFor(0, Suspect)
	})
	t.Run("nothing works", func(t *testing.T) {
		t.Parallel()
		set, _ := noLines(t)
		b := watch(t, set)
		b.elsewhere("a", destinationA)
		b.waitChecks()
		b.elsewhere("a", destinationB)
		b.waitChecks()
		b.avoids("one host")
		b.elsewhere("c", destinationC)
		b.waitFor(0, Suspect)
	})
}

// All addresses and ports of one host may be that host's fault.
func TestOneHostsFailuresAreItsOwn(t *testing.T) {
	t.Parallel()
	set, _ := noLines(t)
	b := watch(t, set)
	for n := range 60 {
		b.Attempted(uplink.Outcome{
			Uplink: set.Uplinks()[n%3], Host: "dead.test", Failure: uplink.TimedOut, Err: errors.New("silence"),
			Destination: []netip.AddrPort{destinationA, destinationB, destinationC}[n/3%3], Took: time.Second,
		})
	}
	b.avoids("after many failures of one host")
}

// What lies on another line's own network tells nothing of this one.
func TestNeighboursOfOthersAreNoTargets(t *testing.T) {
	t.Parallel()
	set, _ := noLines(t)
	b := watch(t, set)
	b.report(0, netip.MustParseAddrPort("198.51.100.7:80"), uplink.NoFailure) // on its own network
	b.Doubted(set.Uplinks()[1], uplink.IPv4)
	b.waitChecks()
	b.avoids("nothing to check with")
	b.report(0, destinationA, uplink.NoFailure)
	b.Doubted(set.Uplinks()[1], uplink.IPv4)
	b.waitFor(1, Suspect)
}

// A suspect line that nothing can be checked with is given another chance after a while.
func TestAnotherChance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		set, _ := noLines(t)
		b := watch(t, set)
		b.report(0, destinationA, uplink.TimedOut)
		b.report(0, destinationB, uplink.TimedOut)
		b.avoids("two hosts failed", 0)
		time.Sleep(forgotten - time.Second)
		b.avoids("a minute is not over", 0)
		time.Sleep(maxInterval + time.Second)
		synctest.Wait()
		b.avoids("a while later")
	})
}

// A line without IPv6 is no line that is down.
func TestOtherFamilyIsNoFault(t *testing.T) {
	t.Parallel()
	set, _ := noLines(t)
	b := watch(t, set)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.told) > 0 {
		t.Errorf("told %+v", b.told)
	}
	for _, s := range b.Statuses() {
		if s.Family != uplink.IPv4 || s.State != Up {
			t.Errorf("status %+v", s)
		}
	}
}

func TestStatesTogether(t *testing.T) {
	t.Parallel()
	set, _ := noLines(t)
	b := watch(t, set)
	var all sync.WaitGroup
	for line := range 3 {
		all.Go(func() {
			for n := range 300 {
				b.report(line, destinationA, [...]uplink.Failure{uplink.NoFailure, uplink.TimedOut, uplink.LineUnusable}[n%3])
				b.overtaken(line, destinationB)
				b.Doubted(b.set.Uplinks()[line], uplink.IPv4)
				b.Bands(uplink.IPv4)
				b.Statuses()
			}
		})
	}
	all.Wait()
}
