package relay

import (
	"net"
	"runtime"
	"testing"

	"dispatch/testdata/loopback"
)

// BenchmarkIdleSession weighs sessions that have moved a byte each way and wait: as
// they are at once, and when they have been parked.
func BenchmarkIdleSession(b *testing.B) {
	const sessions = 2000
	for _, state := range []string{"awake", "parked"} {
		b.Run(state, func(b *testing.B) {
			p := startPeer(b)
			e := NewEngine()
			// It keeps no goroutine of its own.
			g := startGateway(b, p.Destination, func(client, destination *net.TCPConn) {
				e.Relay(client, destination, nil, func(error) {}).Start()
			})
			lot := &e.lot
			empty := func() bool { quiet, parked := lot.isQuiet(); return quiet && parked == 0 }
			each := func(now, before int) float64 { return float64(now-before) / sessions }
			for b.Loop() {
				memory, goroutines, open := inUse(), runtime.NumGoroutine(), loopback.Descriptors(b)
				p.run(b, job{Relay: g.addr, Streams: sessions, Up: 1, Down: 1, Hold: true})
				if state == "parked" {
					loopback.Eventually(b, "all to be parked", func() bool { quiet, _ := lot.isQuiet(); return quiet })
				}
				b.ReportMetric(each(runtime.NumGoroutine(), goroutines), "goroutines/session")
				b.ReportMetric(each(loopback.Descriptors(b), open), "fds/session")
				b.ReportMetric(each(inUse(), memory), "B/session")
				p.run(b, job{Relay: g.addr})
				loopback.Eventually(b, "the sessions to end", empty)
			}
		})
	}
}
