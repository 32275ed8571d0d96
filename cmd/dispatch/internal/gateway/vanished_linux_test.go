package gateway

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"dispatch/testdata/loopback"
	"dispatch/testdata/world"
)

// vanish takes the second line's address away, after something else has happened to it. Sessions from it are reset, so that
// their applications connect anew; those of other lines go on.
func vanish(t *testing.T, r *running, first func()) {
	t.Helper()
	echo := r.lab.Listen(t, netip.AddrPortFrom(netip.MustParseAddr(world.Server4), 0))
	var serving sync.WaitGroup
	over, end := context.WithCancel(t.Context())
	serving.Go(func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				defer context.AfterFunc(over, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
				if _, err := fmt.Fprintln(c, c.RemoteAddr()); err == nil {
					_, _ = io.Copy(c, c)
				}
			})
		}
	})
	defer serving.Wait()
	defer echo.Close()
	defer end()
	port := echo.Addr().(*net.TCPAddr).Port
	var conns [3][]net.Conn
	for range 9 {
		c, peer := r.tunnel(t, port)
		defer c.Close()
		for i := range 3 {
			if strings.HasPrefix(peer, r.lab.Uplink(r.first+i).IPv4.Addr().String()+":") {
				conns[i] = append(conns[i], c)
			}
		}
	}
	if len(conns[1]) != 3 {
		t.Fatalf("%d, %d and %d sessions on the lines", len(conns[0]), len(conns[1]), len(conns[2]))
	}
	first()
	time.Sleep(200 * time.Millisecond) // for the gateway to see that
	gone := time.Now()
	r.lab.DelAddr(r.first+1, r.lab.Uplink(r.first+1).IPv4.Addr())
	for _, c := range conns[1] {
		if _, err := c.Read(make([]byte, 1)); !loopback.IsReset(err) {
			t.Errorf("the session ended with %v, want a reset", err)
		}
	}
	took := time.Since(gone)
	t.Logf("reset after %v", took.Round(time.Millisecond))
	if took > time.Second {
		t.Errorf("reset after %v, want at most 1s", took)
	}
	for _, c := range append(conns[0], conns[2]...) {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Errorf("a session of another line: %v", err)
		}
	}
}

// tunnel opens a session to a port of a server that tells the peer's address, and returns what it told.
func (r *running) tunnel(t *testing.T, port int) (c net.Conn, peer string) {
	t.Helper()
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", r.socks)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	to := netip.MustParseAddr(world.Server4).As4()
	request := append([]byte{5, 1, 0, 5, 1, 0, 1}, to[:]...)
	if _, err := c.Write(append(request, byte(port>>8), byte(port))); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 12)); err != nil {
		t.Fatal(err)
	}
	if peer, err = readLine(c); err != nil {
		t.Fatal(err)
	}
	return c, peer
}
