package dispatcher

import (
	"errors"
	"net"
	"testing"

	"dispatch/dispatcher/uplink"
	"dispatch/testdata/netlab"
)

// unplugging is an Observer that takes the first line's address away as soon as something has connected.
type unplugging struct {
	lab *netlab.Lab
	d   *Dispatcher
}

func (*unplugging) Doubted(*uplink.Uplink, uplink.Family) {}

func (u *unplugging) Attempted(o uplink.Outcome) {
	if o.Err != nil || u.d.latest.Load() != nil {
		return
	}
	u.lab.Unplug(0)
	u.d.fleet.Invalidate()
	if now, err := u.d.fleet.View(); err == nil {
		u.d.ResetStranded(now)
	}
}

// Nobody would tell a connection that was made just before its line went, and became a session's just after the others
// were reset: the kernel waits for a device that may come back under the same name, but never is the same.
func TestStrandedWhileItConnects(t *testing.T) {
	lab := netlab.New(t, netlab.Config{})
	lab.EchoPeer(t, at("198.18.0.1"))
	u := &unplugging{lab: lab}
	u.d = inLab(t, Config{Observer: u}, "wan1", "wan2")
	c, err := u.d.Dial(t.Context(), Request{Host: "198.18.0.1", Port: 80})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a session without a line: read %d bytes, %v", n, err)
	}
	if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if peer, err := ask(t, u.d, "198.18.0.1", 80); err != nil || peer != lab.Uplink(1).IPv4.Addr() {
		t.Errorf("the next one: from %v, %v", peer, err)
	}
}
