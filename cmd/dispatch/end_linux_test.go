package main

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"dispatch/testdata/loopback"
	"dispatch/testdata/netlab"
	"dispatch/testdata/world"
)

func TestSnapshotOnSignal(t *testing.T) {
	world.New(t, netlab.Config{})
	p := start(t, "wan1@5", "wan2@3")
	for range 8 {
		if _, err := p.Ask(t.Context(), world.SOCKS5, world.Server4); err != nil {
			t.Fatal(err)
		}
	}
	p.logged(t, 8, "session closed", `"class":""`, `"attempts":1`)
	p.signal(t, syscall.SIGUSR1)
	p.logged(t, 1, `"msg":"snapshot of an uplink","uplink":"wan1","account":{"live":0,"total":5,"failed":0,"up":0,"down":`)
	p.logged(t, 1, `"msg":"snapshot of an uplink","uplink":"wan2","account":{"live":0,"total":3,`)
	p.logged(t, 1, `"msg":"snapshot of a listener","listener":"socks `+p.socks)
}

// hang opens a tunnel through the gateway to a server that holds it.
func hang(t *testing.T, lab *netlab.Lab, p *process) (near, far net.Conn) {
	t.Helper()
	lab.ServerAddr(netip.MustParseAddr("198.18.0.3"))
	l := lab.Listen(t, netip.AddrPortFrom(netip.MustParseAddr("198.18.0.3"), world.PeerPort))
	near, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.socks)
	if err != nil {
		t.Fatal(err)
	}
	if err := world.Ask5(near, "198.18.0.3"); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range []net.Conn{near, far} {
			if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
	})
	for _, c := range []net.Conn{near, far} {
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	return near, far
}

func TestInterruptLetsSessionsFinish(t *testing.T) {
	lab := world.New(t, netlab.Config{})
	p := start(t, "--grace", "20s", "wan1")
	near, far := hang(t, lab, p)
	p.signal(t, os.Interrupt)
	for { // it stops accepting
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.socks)
		if err != nil {
			break
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := far.Write([]byte("the rest")); err != nil {
		t.Fatal(err)
	}
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(near); err != nil || string(all) != "the rest" {
		t.Errorf("the session got %q, %v", all, err)
	}
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	p.logged(t, 1, `"msg":"stopped","sessions_cut":0`)
	find(t, p.text(), `(stopping: sessions have 20s to finish \(1 now\))`)
}

func TestSecondInterruptEndsNow(t *testing.T) {
	lab := world.New(t, netlab.Config{})
	p := start(t, "--grace", "1h", "wan1")
	near, far := hang(t, lab, p)
	p.signal(t, os.Interrupt)
	p.logged(t, 0, "stopped")
	for !strings.Contains(p.text(), "stopping") {
		time.Sleep(time.Millisecond)
	}
	p.signal(t, os.Interrupt)
	if code := p.wait(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	for end, c := range map[string]net.Conn{"client": near, "server": far} {
		if _, err := io.ReadAll(c); !loopback.IsReset(err) {
			t.Errorf("the %s saw %v, want a reset: it must not take a cut session for a whole one", end, err)
		}
	}
	p.logged(t, 1, `"msg":"stopped","sessions_cut":1`)
	p.logged(t, 1, "session closed", `"class":"closed"`)
}

func TestGraceEnds(t *testing.T) {
	lab := world.New(t, netlab.Config{})
	p := start(t, "--grace", "300ms", "wan1")
	hang(t, lab, p)
	begin := time.Now()
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(begin); took < 300*time.Millisecond || took > 5*time.Second {
		t.Errorf("ended after %s", took)
	}
}
