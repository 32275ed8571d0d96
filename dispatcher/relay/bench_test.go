//go:build unix

package relay

import (
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"dispatch/testdata/loopback"
)

// The applications run in a process of their own, so that the processor time of
// this one is the relay's. It is what counts: the clock also times the others,
// and whatever else the machine does.

// gateway accepts connections and relays each to the destination.
type gateway struct {
	addr     string
	sessions sync.WaitGroup
}

type relayFunc func(client, destination *net.TCPConn)

func startGateway(b *testing.B, destination string, relay relayFunc) *gateway {
	b.Helper()
	to, err := net.ResolveTCPAddr("tcp", destination)
	must(b, err)
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(b, err)
	g := &gateway{addr: listener.Addr().String()}
	g.sessions.Go(func() { g.accept(b, listener, to, relay) })
	b.Cleanup(func() {
		listener.Close()
		g.sessions.Wait()
	})
	return g
}

func (g *gateway) accept(b *testing.B, listener *net.TCPListener, to *net.TCPAddr, relay relayFunc) {
	for {
		client, err := listener.AcceptTCP()
		if err != nil {
			return
		}
		g.sessions.Go(func() {
			destination, err := net.DialTCP("tcp", nil, to)
			if err != nil {
				b.Error(err)
				client.Close()
				return
			}
			relay(client, destination)
		})
	}
}

// ours relays as users have it.
func ours(b *testing.B, e *Engine) relayFunc {
	return func(client, destination *net.TCPConn) {
		var c Counters
		ended := make(chan error)
		e.Relay(client, destination, &c, func(err error) { ended <- err }).Start()
		if err := <-ended; err != nil && !loopback.IsBroken(err) {
			b.Error(err)
		}
	}
}

// copyPair is what most relays in Go do: two io.Copy, which splice on Linux.
func copyPair(client, destination *net.TCPConn) {
	var both sync.WaitGroup
	pass := func(to, from *net.TCPConn) {
		io.Copy(to, from) //nolint:errcheck // the benchmark's applications check
		to.CloseWrite()
	}
	both.Go(func() { pass(destination, client) })
	pass(client, destination)
	both.Wait()
	client.Close()
	destination.Close()
}

// shapes are the exchanges that are measured.
var shapes = []struct {
	name     string
	up, down int
}{
	{"1B", 1, 1},
	{"64KiB-down", 1, 64 << 10},
	{"1MiB-down", 1, 1 << 20},
	{"64MiB-down", 1, 64 << 20},
	{"64MiB-up", 64 << 20, 1},
	{"64MiB-both", 64 << 20, 64 << 20},
}

func BenchmarkRelay(b *testing.B) {
	p, e := startPeer(b), NewEngine()
	for _, shape := range shapes {
		for _, streams := range []int{1, 8} {
			b.Run(shape.name+"/streams="+strconv.Itoa(streams), func(b *testing.B) {
				g := startGateway(b, p.Destination, ours(b, e))
				j := job{Relay: g.addr, Streams: streams, Ops: (b.N + streams - 1) / streams, Up: shape.up, Down: shape.down}
				size := shape.up + shape.down
				b.SetBytes(int64(size))
				b.ResetTimer()
				began := loopback.CPUTime(b)
				p.run(b, j)
				used := loopback.CPUTime(b) - began
				b.StopTimer()
				report(b, used, j.Ops*streams, size)
			})
		}
	}
}

func report(b *testing.B, used time.Duration, ops, size int) {
	b.Helper()
	if size <= 2 {
		b.ReportMetric(float64(used.Microseconds())/float64(ops), "CPU-us/op")
		return
	}
	b.ReportMetric(used.Seconds()/(float64(ops)*float64(size)/1e9), "CPU-s/GB")
}

// BenchmarkAgainstCopy compares with a pair of io.Copy, and with no relay at
// all, in rounds of one each whose order rotates. It reports medians of the
// rounds' own ratios: below 1 is better than the other for cpu and time.
func BenchmarkAgainstCopy(b *testing.B) {
	p, e := startPeer(b), NewEngine()
	for _, shape := range shapes {
		for _, streams := range []int{1, 8} {
			b.Run(shape.name+"/streams="+strconv.Itoa(streams), func(b *testing.B) {
				addrs := [...]string{
					startGateway(b, p.Destination, ours(b, e)).addr,
					startGateway(b, p.Destination, copyPair).addr,
					p.Destination,
				}
				// About 200 MB or 2000 round trips in each turn.
				ops := max(1, min(2000, 200<<20/(shape.up+shape.down))/streams)
				var cpuRatio, timeRatio, direct, cpu []float64
				b.ResetTimer()
				for round := range b.N {
					var took, used [len(addrs)]float64
					for i := range addrs {
						turn := (round + i) % len(addrs)
						began := loopback.CPUTime(b)
						j := job{Relay: addrs[turn], Streams: streams, Ops: ops, Up: shape.up, Down: shape.down}
						took[turn] = p.run(b, j).Seconds()
						used[turn] = (loopback.CPUTime(b) - began).Seconds()
					}
					cpuRatio = append(cpuRatio, used[0]/used[1])
					timeRatio = append(timeRatio, took[0]/took[1])
					direct = append(direct, took[0]/took[2])
					cpu = append(cpu, used[0]/float64(ops*streams))
				}
				b.ReportMetric(median(cpuRatio), "cpu/copy")
				b.ReportMetric(median(timeRatio), "time/copy")
				b.ReportMetric(median(direct), "time/direct")
				report(b, time.Duration(median(cpu)*1e9), 1, shape.up+shape.down)
			})
		}
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
