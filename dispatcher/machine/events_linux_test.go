package machine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dispatch/testdata/netlab"
)

// wan is a reading's entry of the lab's line.
func wan(t *testing.T, r *Reading) *Interface {
	t.Helper()
	at := slices.IndexFunc(r.Interfaces, func(i Interface) bool { return i.Name == "wan1" })
	if at < 0 {
		t.Fatalf("wan1 is missing: %+v", r.Interfaces)
	}
	return &r.Interfaces[at]
}

// overflow makes more events than the source's smallest buffer takes.
func overflow(t *testing.T) {
	t.Helper()
	for at := range 200 {
		a := &netlink.Addr{IPNet: (&testNetwork{t: t}).prefix(fmt.Sprintf("192.0.2.%d/32", at+1))}
		link, err := netlink.LinkByName("wan1")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(netlink.AddrAdd(link, a), netlink.AddrDel(link, a)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEventsOverflow(t *testing.T) {
	lab := netlab.New(t, netlab.Config{Uplinks: make([]netlab.Uplink, 1)})
	source, err := openEvents()
	if err != nil {
		t.Fatal(err)
	}
	e := source.(*socketEvents)
	t.Cleanup(func() {
		if err := e.close(); err != nil {
			t.Error(err)
		}
	})
	expect := func(want bool, when string, atMost time.Duration) {
		t.Helper()
		got, err := e.wait(t.Context(), atMost)
		if err != nil || got != want {
			t.Fatalf("%s: got %t, %v; want %t", when, got, err, want)
		}
	}
	control := func(do func(fd int) error) {
		t.Helper()
		if err := e.raw.Control(func(fd uintptr) { err = do(int(fd)) }); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1) })
	expect(false, "before any event", 0)

	overflow(t)
	control(func(fd int) error { // the kernel does drop events here, and says so
		for datagrams := 0; ; datagrams++ {
			switch _, err := unix.Read(fd, make([]byte, 64)); {
			case errors.Is(err, unix.ENOBUFS):
				return nil
			case err != nil:
				return fmt.Errorf("after %d datagrams: %w", datagrams, err)
			}
		}
	})
	for range 3 {
		overflow(t)
		expect(true, "after an overflow", 0)
		expect(false, "after an overflow that was told", 0)
		lab.SetDefault4(0, false) // it is not deaf now
		expect(true, "after an event", time.Second)
		lab.SetDefault4(0, true)
		expect(true, "after an event", time.Second)
		expect(false, "after an event that was told", 0)
	}

	// The watch goes on too, and without a warning.
	var warnings strings.Builder
	w := &watcher{table: new(Table), log: slog.New(slog.NewTextHandler(&warnings, nil))}
	calls := make(chan *Reading, 100)
	w.changed = func(r *Reading) { calls <- r }
	tiny, err := openEvents()
	if err != nil {
		t.Fatal(err)
	}
	if err := tiny.(*socketEvents).raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1)
	}); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.follow(tiny)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run(ctx)
	}()
	<-calls
	overflow(t)
	lab.SetDefault4(0, false)
	for deadline := time.After(time.Second); ; {
		select {
		case r := <-calls:
			if _, routed := wan(t, r).DefaultRoute(IPv4); routed {
				continue
			}
		case <-deadline:
			t.Error("the change at the end of the burst was not seen within a second")
		}
		break
	}
	cancel()
	<-done
	if warnings.Len() > 0 {
		t.Errorf("warned: %s", &warnings)
	}
}

// A closed socket is a dead source: the watch warns and polls.
func TestWatchSurvivesItsSocket(t *testing.T) {
	lab := netlab.New(t, netlab.Config{Uplinks: make([]netlab.Uplink, 1)})
	source, err := openEvents()
	if err != nil {
		t.Fatal(err)
	}
	if err := source.close(); err != nil {
		t.Fatal(err)
	}
	var warnings strings.Builder
	calls := make(chan *Reading, 100)
	w := &watcher{table: new(Table), log: slog.New(slog.NewTextHandler(&warnings, nil)), changed: func(r *Reading) { calls <- r }}
	w.follow(source)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run(ctx)
	}()
	<-calls
	lab.ClientLink(0, false)
	select {
	case r := <-calls:
		if wan(t, r).Up {
			t.Errorf("told %+v", r.Interfaces)
		}
	case <-time.After(5 * time.Second):
		t.Error("the link that went down was not seen")
	}
	cancel()
	<-done
	if n := strings.Count(warnings.String(), "cannot follow"); n != 1 {
		t.Errorf("%d warnings: %s", n, &warnings)
	}
}
