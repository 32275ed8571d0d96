package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dispatch/cmd/dispatch/internal/config"
	"dispatch/dispatcher/uplink"
	"dispatch/testdata/loopback"
	"dispatch/testdata/netlab"
	"dispatch/testdata/world"
)

func TestChooseLinesNeedsThem(t *testing.T) {
	netlab.New(t, netlab.Config{})
	spec, err := uplink.ParseSpec("nothing0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ChooseLines([]uplink.Spec{spec}); !errors.Is(err, uplink.ErrNoMatch) {
		t.Error(err)
	}
}

// An address that is in use is named with its flag; what was bound before is given back.
func TestStartListensOnAllOrNothing(t *testing.T) {
	netlab.New(t, netlab.Config{})
	busy, free := loopback.AddrOf(loopback.Listen(t)), loopback.Refusing(t)
	lines, err := ChooseLines(nil)
	if err != nil {
		t.Fatal(err)
	}
	g, err := New(config.Config{
		SOCKS: []netip.AddrPort{free}, HTTP: []netip.AddrPort{busy}, HandshakeTimeout: time.Second,
	}, lines, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "choose another address with --http") {
		t.Error(err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	again, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", free.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// State tells the addresses with the ports that were free, the lines, their health, and the sessions; Shutdown how many it
// has cut.
func TestStateAndShutdown(t *testing.T) {
	lab := world.New(t, netlab.Config{Uplinks: make([]netlab.Uplink, 2)})
	r := begin(t, lab, 0, config.Flags{Uplinks: []string{"wan1@2", "wan2"}})
	echo := lab.Listen(t, netip.AddrPortFrom(lab.Server4, 0))
	go func() { // until the lab is gone
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("peer\n"))
			defer c.Close()
		}
	}()
	c, _ := r.tunnel(t, echo.Addr().(*net.TCPAddr).Port)
	defer c.Close()
	s := r.State()
	if len(s.Listeners) != 2 || s.Listeners[0].PAC() != "" || s.Listeners[1].PAC() != "http://"+s.Listeners[1].Addr.String()+"/proxy.pac" {
		t.Errorf("listeners %+v", s.Listeners)
	}
	if len(s.Lines) != 2 || s.Lines[0].Uplink.Name() != "wan1" || s.Lines[1].Problem != "" || len(s.Health) != 4 {
		t.Errorf("lines %+v, health %+v", s.Lines, s.Health)
	}
	if s.Sessions.All.Live != 1 || s.Sessions.All.Total != 1 {
		t.Errorf("sessions %+v", s.Sessions.All)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if cut := r.Shutdown(ended); cut != 1 {
		t.Errorf("%d sessions were cut", cut)
	}
	if s := r.State(); s.Sessions.All.Live != 0 {
		t.Errorf("sessions after the end: %+v", s.Sessions.All)
	}
}
