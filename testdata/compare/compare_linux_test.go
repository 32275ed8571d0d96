package compare

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"dispatch/testdata/netlab"
)

func TestMain(m *testing.M) {
	addFlag()
	goleak.VerifyTestMain(netlab.Wrap(m))
}

// environment is what the proxies find.
type environment struct {
	dir      string            // that all may reach
	dispatch string            // our program
	services map[string]string // where the echo, bulk and web service listen
	port     int               // the last that a proxy was given, below those that connections are given
}

func newEnvironment(t testing.TB) *environment {
	t.Helper()
	netlab.Require(t)
	for name, value := range map[string]string{
		"ip_local_port_range": "10000 65000",
		// Ended connections would keep their ports for a minute: the search for a free one would soon cost more than
		// all the rest of a connection.
		"tcp_max_tw_buckets": "500",
	} {
		must(t, os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0))
	}
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	limit.Cur = min(limit.Max, 16000)
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)) // unlike what the runtime does at start, it is passed on to children

	e := &environment{dir: t.TempDir(), services: serve(t), port: 2000}
	must(t, os.Chmod(filepath.Dir(e.dir), 0o755)) // proxies that give up root read their configuration there
	e.dispatch = filepath.Join(e.dir, "binary")
	if out, err := exec.Command("go", "build", "-o", e.dispatch, "dispatch/cmd/dispatch").CombinedOutput(); err != nil {
		t.Fatalf("build dispatch: %v: %s; there is no network here: let \"go mod download\" fetch what is missing", err, out)
	}
	return e
}

func BenchmarkProxies(b *testing.B) {
	e := newEnvironment(b)
	all := proxies()
	b.Cleanup(func() {
		for _, p := range all {
			p.stop(b)
		}
	})
	for _, l := range loads() {
		b.Run("load="+l.name, func(b *testing.B) {
			for _, p := range all {
				if l.fits(p) {
					b.Run("proxy="+p.name, func(b *testing.B) { measure(b, e, l, p) })
				}
			}
		})
	}
	b.Run("load=idle", func(b *testing.B) {
		for _, p := range all {
			b.Run("proxy="+p.name, func(b *testing.B) { measureIdle(b, e, p) })
		}
	})
}

// measure does b.N operations of the load by way of the proxy, and as many without.
func measure(b *testing.B, e *environment, l load, p *proxy) {
	p.start(b, e)
	b.SetBytes(l.bytes)
	before := p.use(b, false).cpu
	b.ResetTimer()
	must(b, l.run(e, p, b.N))
	b.StopTimer()
	time.Sleep(100 * time.Millisecond) // for the proxy to finish with sessions that have ended: part of what they cost
	cpu := p.use(b, false).cpu - before
	began := time.Now()
	must(b, l.run(e, nil, b.N))
	b.ReportMetric(time.Since(began).Seconds()/b.Elapsed().Seconds(), "of-direct")
	if l.bytes > 0 {
		b.ReportMetric(cpu.Seconds()*1e9/float64(l.bytes)/float64(b.N), "cpu-s/GB")
	} else {
		b.ReportMetric(float64(cpu.Microseconds())/float64(b.N), "cpu-us/op")
	}
}

// measureIdle opens a thousand sessions and leaves them alone: once, whatever b.N is.
func measureIdle(b *testing.B, e *environment, p *proxy) {
	p.stop(b)
	p.start(b, e)
	for unit, value := range idle(b, e, p, 1000, 6*time.Second) {
		b.ReportMetric(value, unit)
	}
	b.ReportMetric(0, "ns/op") // it would only tell how long we waited
}

// idle returns what a session costs that is left alone for so long, in several units.
func idle(t testing.TB, e *environment, p *proxy, sessions int, long time.Duration) map[string]float64 {
	t.Helper()
	must(t, connections(1)(e, p, 50)) // what a proxy sets up once does not count
	time.Sleep(500 * time.Millisecond)
	before, kernelBefore := p.use(t, true), kernelMemory(t)
	conns, err := e.open(p, sessions)
	defer closeAll(conns)
	must(t, err)
	time.Sleep(500 * time.Millisecond)
	first := p.use(t, true)
	time.Sleep(long)
	during, kernel := p.use(t, true), kernelMemory(t)-kernelBefore
	closeAll(conns)
	left := math.Inf(1)
	for closed := time.Now(); left > 0 && time.Since(closed) < time.Second; time.Sleep(5 * time.Millisecond) {
		left = max(0, p.use(t, true).descriptors-before.descriptors)
	}
	kernelBefore = kernelMemory(t)
	direct, err := e.open(nil, sessions)
	defer closeAll(direct)
	must(t, err)
	kernel -= kernelMemory(t) - kernelBefore
	kernel += (during.threads-before.threads)*kernelStack + during.pageTables - before.pageTables
	n := float64(sessions)
	return map[string]float64{
		"KiB-resident": (during.resident - before.resident) / n,
		"KiB-first":    (first.resident - before.resident) / n,
		"KiB-kernel":   kernel / n,
		"descriptors":  (during.descriptors - before.descriptors) / n,
		"left-after-s": left,
	}
}

// TestLoads runs every load through dispatch, with as little as makes sense, and looks at the figures of a session.
func TestLoads(t *testing.T) {
	if testing.Short() {
		t.Skip("builds dispatch and starts it")
	}
	e := newEnvironment(t)
	for _, p := range proxies() {
		if !strings.HasPrefix(p.name, "dispatch") || p.asNobody {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			p.start(t, e)
			defer p.stop(t)
			for _, l := range loads() {
				if !l.fits(p) {
					continue
				}
				before := p.use(t, false).cpu
				must(t, l.run(e, p, 20))
				if p.use(t, false).cpu <= before {
					t.Errorf("%s took no CPU time of the proxy's", l.name)
				}
			}
			got := idle(t, e, p, 20, 0)
			for unit, value := range got {
				if math.IsNaN(value) && os.Getuid() == 0 || unit == "descriptors" && math.Round(value) != 2 || unit == "left-after-s" && value != 0 {
					t.Errorf("a session has %v %s; all figures: %v", value, unit, got)
				}
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
