package relay

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"testing"
)

// BenchmarkIdle weighs sessions that have moved a byte each way and wait.
func BenchmarkIdle(b *testing.B) {
	const sessions = 2000
	p := startPeer(b)
	g := startGateway(b, p.Destination, ours(b))
	for range b.N {
		memory, resident, goroutines, open := inUse(), residentBytes(b), runtime.NumGoroutine(), descriptors(b)
		p.run(b, job{Relay: g.addr, Streams: sessions, Up: 1, Down: 1, Hold: true})
		each := func(now, before int) float64 { return float64(now-before) / sessions }
		b.ReportMetric(each(inUse(), memory), "B/session")
		b.ReportMetric(each(residentBytes(b), resident), "B-resident/session")
		b.ReportMetric(each(runtime.NumGoroutine(), goroutines), "goroutines/session")
		b.ReportMetric(each(descriptors(b), open), "fds/session")
		p.run(b, job{Relay: g.addr})
		eventually(b, "the sessions to end", func() bool { return runtime.NumGoroutine() <= goroutines })
	}
}

func residentBytes(b *testing.B) int {
	b.Helper()
	statm, err := os.ReadFile("/proc/self/statm")
	must(b, err)
	pages, err := strconv.Atoi(string(bytes.Fields(statm)[1]))
	must(b, err)
	return pages * os.Getpagesize()
}
