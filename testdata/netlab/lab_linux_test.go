package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestTheMachineShowsItsOwnDevices(t *testing.T) {
	New(t, Config{})
	ifs, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var names, inSys []string
	for _, i := range ifs {
		names = append(names, i.Name)
	}
	entries, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		inSys = append(inSys, e.Name())
	}
	slices.Sort(names)
	slices.Sort(inSys)
	if !slices.Equal(names, inSys) || !slices.Contains(names, "wan3") || !slices.Contains(names, "lo") {
		t.Errorf("interfaces are %v, and in /sys %v", names, inSys)
	}
}

// traces is what a lab could leave behind in the process and on the client.
type traces struct {
	links, rules, threads, astray int
	fds                           []string
}

func lookForTraces(t *testing.T) traces {
	t.Helper()
	var found traces
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	rules, err := netlink.RuleList(netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	found.links, found.rules = len(links), len(rules)
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil { // else it was Glob's own
			found.fds = append(found.fds, to)
		}
	}
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		where, err := os.Readlink(thread)
		if errors.Is(err, os.ErrNotExist) {
			continue // it has just ended
		}
		found.threads++
		if err != nil || where != ownNet() {
			found.astray++
		}
	}
	return found
}

func TestNothingIsLeft(t *testing.T) {
	lab := func(t *testing.T) {
		l := New(t, Config{Uplinks: []Uplink{{PolicyRoutes: true}, {Rate: 1e6}, {}}})
		for _, dst := range servers(t, l) {
			for i := range 3 {
				mustReach(t, dst, via(l.Uplink(i), dst.Addr()))
			}
		}
		l.Unplug(1)
		for range 20 {
			if err := l.ISP(2).Do(func() error { time.Sleep(time.Millisecond); return nil }); err != nil {
				t.Error(err)
			}
		}
	}
	t.Run("warm up", lab) // the runtime's own threads, the poller's descriptors
	before := lookForTraces(t)
	for range 3 {
		t.Run("lab", lab)
	}
	if err := poll("the end of the threads", func() (bool, error) {
		after := lookForTraces(t)
		return after.astray == 0 && after.threads <= before.threads+4, nil // the runtime may want some more
	}); err != nil {
		t.Errorf("%v: %+v", err, lookForTraces(t))
	}
	after := lookForTraces(t)
	t.Logf("before %d links, %d rules, %d threads, %d descriptors; after %d, %d, %d, %d", before.links, before.rules,
		before.threads, len(before.fds), after.links, after.rules, after.threads, len(after.fds))
	if after.links != before.links || after.rules != before.rules || len(after.fds) > len(before.fds) {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
}

func TestPortsOfClosedConnectionsAreFreeForTheNextLab(t *testing.T) {
	for i := range 2 {
		t.Run(fmt.Sprint("lab ", i), func(t *testing.T) {
			l := New(t, Config{})
			l.SetPortRange(20000, 20000)
			ln := l.Listen(t, netip.AddrPortFrom(l.Server4, 80))
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			dst := netip.MustParseAddrPort(ln.Addr().String())
			for want := range 2 { // the second finds the port in TIME_WAIT
				conn, err := connect(ctx, dst, binding{})
				if want == 1 {
					if !errors.Is(err, unix.EADDRNOTAVAIL) {
						t.Errorf("a port in TIME_WAIT was used again: %v", err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				server, err := ln.Accept()
				if err != nil {
					t.Fatal(err)
				}
				if err := conn.Close(); err != nil { // the client first
					t.Error(err)
				}
				if n, err := server.Read(make([]byte, 1)); n != 0 || err == nil {
					t.Errorf("read %d bytes, %v", n, err)
				}
				if err := server.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestDo(t *testing.T) {
	l := New(t, Config{})
	main := ownNet()
	for range 50 {
		if err := l.ISP(0).Do(func() error {
			if unix.Gettid() == unix.Getpid() {
				t.Error("Do runs on the main thread")
			}
			if here, err := os.Readlink("/proc/thread-self/ns/net"); err != nil || here == main {
				t.Errorf("Do runs in %s, %v, which is the client", here, err)
			}
			if _, err := net.InterfaceByName(ispCore); err != nil {
				t.Errorf("the ISP's machine: %v", err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	wrong := errors.New("wrong")
	if err := l.Internet.Do(func() error { return wrong }); !errors.Is(err, wrong) {
		t.Errorf("error is %v", err)
	}
	if err := l.Internet.Do(func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("no error from a function that did not return")
	}
}

// The main thread may get any goroutine: keep it busy with this one.
func TestDoNeverMovesTheMainThread(t *testing.T) {
	Require(t)
	onMain := make(chan bool)
	var tries atomic.Int32
	for range 200 {
		go func() {
			err := onOwnThread(func() error {
				tries.Add(1)
				if unix.Gettid() == unix.Getpid() {
					return errors.New("on the main thread")
				}
				return nil
			})
			onMain <- err != nil
		}()
	}
	for range 200 {
		if <-onMain {
			t.Error("a function ran on the main thread")
		}
	}
	if tries.Load() != 200 {
		t.Errorf("%d functions ran", tries.Load())
	}
}

// lonely is a test that fails by itself.
type lonely struct {
	testing.TB
	name    string
	message string
}

func (l *lonely) Helper()      {}
func (l *lonely) Name() string { return l.name }
func (l *lonely) Fatalf(format string, args ...any) {
	l.message = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestOneLabAtATime(t *testing.T) {
	var labs atomic.Int32
	t.Run("side by side", func(t *testing.T) {
		for i := range 3 {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				New(t, Config{Uplinks: []Uplink{{}}})
				if n := labs.Add(1); n != 1 {
					t.Errorf("%d labs at the same time", n)
				}
				time.Sleep(5 * time.Millisecond) // time to meet, were it possible
				labs.Add(-1)
			})
		}
	})
	// A second lab in one test would wait for ever.
	New(t, Config{Uplinks: []Uplink{{}}})
	for _, name := range []string{t.Name(), t.Name() + "/sub"} {
		second := &lonely{name: name}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			takeClient(second)
		}()
		select {
		case <-ended:
			if second.message == "" {
				t.Errorf("%s was given a second lab", name)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s waits for a second lab", name)
		}
	}
}
