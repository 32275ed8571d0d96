package doctor

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
)

const (
	// answerTime is more than the three requests take that the kernel sends to an unknown neighbour, one a second.
	answerTime = 4 * time.Second
	// doubtTime is for a neighbour that it has known: it waits five seconds for a sign of life before it asks.
	doubtTime = 10 * time.Second
	// moment is for a neighbour that has answered within the last minute: the kernel does not ask such a one again, so it
	// is the knock alone that counts.
	moment = time.Second
	// lookAgain is the time between two looks at the neighbour table.
	lookAgain = 20 * time.Millisecond
)

// examineRouters asks all routers at once.
func (e *examination) examineRouters(ctx context.Context) {
	type visit struct {
		l    *line
		f    machine.Family
		note func()
	}
	var visits []*visit
	var running sync.WaitGroup
	for _, l := range e.lines {
		for _, f := range families {
			r, ok := l.route[f]
			if !ok || !r.Router.IsValid() {
				continue
			}
			v := &visit{l: l, f: f}
			visits = append(visits, v)
			running.Go(func() { v.note = e.examineRouter(ctx, l, f, r) })
		}
	}
	running.Wait()
	for _, v := range visits {
		v.note()
	}
}

// examineRouter returns the function that notes what it has found.
func (e *examination) examineRouter(ctx context.Context, l *line, f machine.Family, r machine.DefaultRoute) func() {
	state := neighbourState(l, r.Router)
	if e.RouterTimeout >= 0 && state&unix.NUD_REACHABLE != 0 {
		timeout := moment
		if e.RouterTimeout > 0 {
			timeout = min(timeout, e.RouterTimeout)
		}
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		if !knock(ctx, l, doorOf(l, r.Router)) {
			return func() { l.pass(CheckRouter, f, "the router %s has answered within the last minute", r.Router) }
		}
	} else if e.RouterTimeout >= 0 && state&(unix.NUD_NOARP|unix.NUD_PERMANENT) == 0 {
		timeout := e.RouterTimeout
		if timeout == 0 {
			timeout = answerTime
			if state&(unix.NUD_STALE|unix.NUD_DELAY|unix.NUD_PROBE) != 0 {
				timeout = doubtTime
			}
		}
		state = e.provoke(ctx, l, r.Router, timeout)
	}
	switch {
	case state == unix.NUD_FAILED && e.RouterTimeout < 0:
		return func() {
			l.warn(CheckRouter, f, nil, "the router %s did not answer when it was last asked", r.Router)
		}
	case state == unix.NUD_FAILED:
		return func() {
			l.broken[f] = true
			l.fail(CheckRouter, f, nil, "the router %s does not answer: look whether it is switched on and this is its network, or restart it", r.Router)
		}
	case state&(unix.NUD_REACHABLE|unix.NUD_PERMANENT|unix.NUD_NOARP) != 0:
		return func() { l.pass(CheckRouter, f, "the router %s answers", r.Router) }
	case e.RouterTimeout < 0:
		return func() { l.pass(CheckRouter, f, "nothing is known against the router %s", r.Router) }
	}
	return func() { l.warn(CheckRouter, f, nil, "the router %s has not answered yet", r.Router) }
}

// provoke sends the router the beginning of a connection to a port that nobody serves, and returns the state its entry
// in the neighbour table comes to within the time.
func (e *examination) provoke(ctx context.Context, l *line, gw netip.Addr, timeout time.Duration) uint16 {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ended := make(chan bool, 1)
	go func() { ended <- knock(ctx, l, doorOf(l, gw)) }()
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	knocking := ended
	for {
		select {
		case answered := <-knocking:
			if answered {
				return unix.NUD_REACHABLE
			}
			knocking = nil
		case <-look.C:
			switch state := neighbourState(l, gw); {
			case state&(unix.NUD_REACHABLE|unix.NUD_FAILED) != 0:
				cancel()
				settle(knocking)
				return state
			case ctx.Err() != nil:
				settle(knocking)
				return state
			}
		}
	}
}

// doorOf is where a router is knocked at.
func doorOf(l *line, gw netip.Addr) netip.AddrPort {
	if gw.IsLinkLocalUnicast() {
		gw = gw.WithZone(zoneOf(l))
	}
	return netip.AddrPortFrom(gw, discardPort)
}

// settle waits for a knock that has been called off; nil is none.
func settle(knocking <-chan bool) {
	if knocking != nil {
		<-knocking
	}
}

// knock tells whether somebody has answered. Whoever refuses is there; other errors come from this machine, and its
// neighbour table tells more than they do.
func knock(ctx context.Context, l *line, to netip.AddrPort) bool {
	conn, err := l.way.DialStream(ctx, uplink.To(to))
	if err == nil {
		err = conn.Close()
	}
	return err == nil || uplink.FailureOf(err) == uplink.Refused
}

// neighbourState is NUD_NONE for a neighbour that the kernel does not know.
func neighbourState(l *line, addr netip.Addr) uint16 {
	list, err := machine.Neighbours(machine.FamilyOf(addr), l.iface.Index)
	if err != nil {
		return unix.NUD_NONE
	}
	for _, n := range list {
		if n.Addr == addr {
			return n.State
		}
	}
	return unix.NUD_NONE
}
