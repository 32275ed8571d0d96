package relay

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dispatch/testdata/loopback"
)

// pipes returns how many pipes a pool has made and how many of them are lent.
func (p *pipePool) pipes() (made, lent int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.made, p.made - len(p.free)
}

// burst sends more, without a pause, than a flow takes to be seen as bulk: the
// receiver begins to read when everybody in between is full.
func burst(t *testing.T, r *rig, size int64) {
	t.Helper()
	before := r.counters.Down.Load()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		transfer(t, r.server, r.client, 3, size)
	}()
	<-sent
	loopback.Eventually(t, "the count", func() bool { return r.counters.Down.Load() == before+size })
}

func TestBulkQuietBulk(t *testing.T) {
	e := NewEngine()
	r := newRig(t, e, whole, whole)
	for range 2 {
		burst(t, r, 16<<20)
		if made, _ := e.pipes.pipes(); made == 0 {
			t.Error("a bulk flow got no pipe")
		}
		loopback.Eventually(t, "the pipe to be given back", func() bool { _, lent := e.pipes.pipes(); return lent == 0 })
		r.client.send([]byte("and now for something small"))
		r.server.gets([]byte("and now for something small"))
		loopback.Eventually(t, "unused pipes to be closed", func() bool { made, _ := e.pipes.pipes(); return made == 0 })
	}
	r.client.fin()
	r.server.getsFIN(0)
	r.server.fin()
	r.client.getsFIN(0)
	r.endsClean()
}

// TestNoPipeToBeHad stalls one flow with the only pipe in its hands.
func TestNoPipeToBeHad(t *testing.T) {
	e := splicedEngine()
	e.pipes.max = 1
	stalled := newRig(t, e, whole, whole)
	const size = 16 << 20
	done := make(chan struct{})
	begin := make(chan struct{})
	go func() {
		defer close(done)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			stalled.server.send(pattern(7, size))
		}()
		<-begin
		stalled.client.gets(pattern(7, size))
		<-sent
	}()
	last := int64(-1)
	loopback.Eventually(t, "the first flow to stall with the pipe", func() bool {
		now := stalled.counters.Down.Load()
		_, lent := e.pipes.pipes()
		still := now == last && lent == 1
		last = now
		time.Sleep(20 * time.Millisecond)
		return still
	})
	other := newRig(t, e, whole, whole)
	transfer(t, other.client, other.server, 8, size)
	other.counted(size, 0)
	if made, lent := e.pipes.pipes(); made != 1 || lent != 1 {
		t.Errorf("%d pipes, %d lent; want the one that the first flow holds", made, lent)
	}
	close(begin)
	<-done
	stalled.counted(0, size)
}

// TestPipeOfABrokenFlow checks that a pipe with bytes in it is not lent again.
func TestPipeOfABrokenFlow(t *testing.T) {
	e := splicedEngine()
	r := newRig(t, e, whole, whole)
	poured := r.server.pour()
	loopback.Eventually(t, "the flow to stall with the pipe", func() bool {
		before := r.counters.Down.Load()
		time.Sleep(20 * time.Millisecond)
		_, lent := e.pipes.pipes()
		return lent == 1 && r.counters.Down.Load() == before
	})
	r.client.reset()
	r.endsReset(Client)
	<-poured //nolint:errcheck // only its end is waited for
	if _, lent := e.pipes.pipes(); lent != 0 {
		t.Errorf("%d pipes are still lent", lent)
	}
	for _, free := range e.pipes.free {
		if n, err := unix.IoctlGetInt(free.r, unix.TIOCINQ); n != 0 || err != nil {
			t.Errorf("a free pipe has %d bytes in it, %v", n, err)
		}
	}
	next := newRig(t, e, whole, whole)
	transfer(t, next.server, next.client, 1, 1<<20)
}

func TestPoolIsBounded(t *testing.T) {
	var p pipePool
	p.init()
	p.max = 2
	a, b := p.get(), p.get()
	if a == nil || b == nil {
		t.Fatal("no pipes")
	}
	if p.get() != nil {
		t.Error("a third pipe, with a bound of two")
	}
	p.put(b, true)
	if c := p.get(); c != b {
		t.Error("the free pipe was not lent again")
	}
	p.put(a, true)
	p.put(b, false)
	if made, lent := p.pipes(); made != 1 || lent != 0 {
		t.Errorf("%d pipes, %d lent; want 1 and 0", made, lent)
	}
	loopback.Eventually(t, "the unused pipe to be closed", func() bool { made, _ := p.pipes(); return made == 0 })
}

// TestDescriptorsComeBack runs many bulk sessions that end in every way, on one
// engine.
func TestDescriptorsComeBack(t *testing.T) {
	e := NewEngine()
	baseline := loopback.Descriptors(t)
	for round := range 3 {
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				client, near := loopback.Pair(t)
				far, server := loopback.Pair(t)
				ended := make(chan error, 1)
				relay := e.Relay(near, far, nil, func(err error) { ended <- err })
				relay.Start()
				a, b := plain(t, client), plain(t, server)
				transfer(t, b, a, uint64(i), 1<<20)
				switch (i + round) % 4 {
				case 0:
					a.reset()
				case 1:
					b.reset()
				case 2:
					a.fin()
					b.getsFIN(0)
					b.fin()
				case 3:
					near.Close()
					relay.Wake()
				}
				<-ended //nolint:errcheck // only its end is waited for
				client.Close()
				server.Close()
			})
		}
		all.Wait()
	}
	began := time.Now()
	loopback.Eventually(t, "the descriptors to be closed", func() bool { return loopback.Descriptors(t) <= baseline })
	if took := time.Since(began); took > time.Second {
		t.Errorf("the descriptors came back only after %v", took)
	}
}

// userEnv makes the test that runs itself again do its work.
const userEnv = "DISPATCH_RELAY_TEST_USER"

// TestPipesOfAnOrdinaryUser uses up the allowance that the kernel gives a user:
// the pipes it makes then are too small to be worth having.
func TestPipesOfAnOrdinaryUser(t *testing.T) {
	if os.Getenv(userEnv) != "" {
		must(t, syscall.Setuid(somebody))
		lookForPipes(t)
		return
	}
	soft, err := os.ReadFile("/proc/sys/fs/pipe-user-pages-soft")
	if err != nil || string(soft) != "16384\n" {
		t.Skipf("NOT RUN: the kernel's limit is not the usual one: %q, %v", soft, err)
	}
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root can become a user of whom nothing else runs")
	}
	if !exists(t, somebody) {
		t.Skipf("NOT RUN: there is no user %d in this namespace", somebody)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), userEnv+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("as an ordinary user: %v\n%s", err, out)
	}
}

// somebody is a user that is unlikely to have anything running.
const somebody = 64_123

// exists tells whether a user's number stands for anybody here (user_namespaces(7)).
func exists(t *testing.T, user int) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/self/uid_map")
	must(t, err)
	for line := range strings.Lines(string(text)) {
		var first, outside, count int
		if _, err := fmt.Sscan(line, &first, &outside, &count); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if first <= user && user-first < count {
			return true
		}
	}
	return false
}

func lookForPipes(t *testing.T) {
	t.Helper()
	var p pipePool
	p.init()
	fresh := p.get()
	if fresh == nil {
		t.Fatal("no pipe for a user who has none")
	}
	p.put(fresh, false)
	var crowd []*pipe // as of another program of the same user
	for range 64 {
		other := makePipe(1 << 20)
		if other == nil {
			t.Fatal("the kernel gives less than its limit")
		}
		crowd = append(crowd, other)
	}
	if p.get() != nil {
		t.Error("a pipe was lent that is too small to be worth it")
	}
	crowd[0].close()
	if p.get() != nil {
		t.Error("a refusal was not remembered")
	}
	for _, other := range crowd[1:] {
		other.close()
	}
	p.retry = time.Time{} // as it is a second later
	again := p.get()
	if again == nil {
		t.Fatal("no pipe although there is room again")
	}
	p.put(again, false)
}

// TestFallsBackWithoutDescriptors checks that a flow goes on by copying when
// the process may open no more descriptors.
func TestFallsBackWithoutDescriptors(t *testing.T) {
	e := splicedEngine()
	e.bulkFrom = 1 // not before the limit is in force
	r := newRig(t, e, whole, whole)
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	few := limit
	few.Cur = 0
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &few))
	defer func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)) }()
	transfer(t, r.server, r.client, 1, 4<<20)
	r.counted(0, 4<<20)
	if made, _ := e.pipes.pipes(); made != 0 {
		t.Error("there were pipes to be had: nothing is tested")
	}
}
