package netlab

import (
	"errors"
	"fmt"
)

// change runs fn with line i while nothing else is changed; an error is one of the test.
func (l *Lab) change(i int, what string, fn func(*line) error) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := fn(l.lines[i]); err != nil {
		l.t.Errorf("netlab: uplink %d (%s): %s: %v", i, l.lines[i].cfg.Name, what, err)
	}
}

var errUnplugged = errors.New("it is unplugged: call Plug first")

// changePlugged is change for what can only be done while the line is plugged in.
func (l *Lab) changePlugged(i int, what string, fn func(*line) error) {
	l.t.Helper()
	l.change(i, what, func(ln *line) error {
		if ln.index == 0 {
			return errUnplugged
		}
		return fn(ln)
	})
}

// ClientLink brings the client's end of line i down or up, as "ip link set" does: down, the kernel forgets its routes
// and IPv6 addresses; up, they are restored, as the machine's network manager would.
func (l *Lab) ClientLink(i int, up bool) {
	l.t.Helper()
	l.changePlugged(i, "switching the client's link", func(ln *line) error {
		ln.clientUp = up
		if !up {
			return l.client.nl.LinkSetDown(linkAt(ln.index))
		}
		// A tentative address may have switched duplicate address detection on: not for the link-local one.
		err := writeSysctls([]sysctl{{"ipv6/conf/" + ln.cfg.Name + "/accept_dad", "0"}})
		if err == nil {
			err = l.client.nl.LinkSetUp(linkAt(ln.index))
		}
		if err != nil {
			return err
		}
		return errors.Join(l.waitCarrier(ln), l.configureClient(ln))
	})
}

// ISPLink brings the ISP's end of line i down or up: down, the client's interface stays up and has no carrier, as
// when the cable is pulled at the far end.
func (l *Lab) ISPLink(i int, up bool) {
	l.t.Helper()
	l.changePlugged(i, "switching the ISP's link", func(ln *line) error {
		ln.ispUp = up
		if !up {
			return ln.isp.nl.LinkSetDown(linkAt(ln.ispIndex))
		}
		if err := ln.isp.nl.LinkSetUp(linkAt(ln.ispIndex)); err != nil {
			return err
		}
		return errors.Join(l.waitCarrier(ln), ln.configureISP())
	})
}

func (l *Lab) waitCarrier(ln *line) error {
	if !ln.clientUp || !ln.ispUp {
		return nil
	}
	return errors.Join(waitUp(l.client.nl, ln.index), waitUp(ln.isp.nl, ln.ispIndex))
}

// Unplug takes the client's interface of line i away, as when a phone or a dongle is unplugged.
func (l *Lab) Unplug(i int) {
	l.t.Helper()
	l.changePlugged(i, "unplugging", l.unplug)
}

// Plug brings it back: the same name, addresses and routes, but another interface index.
func (l *Lab) Plug(i int) {
	l.t.Helper()
	l.change(i, "plugging in", func(ln *line) error {
		if ln.index != 0 {
			return errors.New("it is plugged in: call Unplug first")
		}
		return l.plug(ln)
	})
}

// Silence makes ISP i lose everything that it should forward, in both directions, without a word; its gateway still
// answers ARP, neighbour solicitations and pings. Off undoes SilenceAll too.
func (l *Lab) Silence(i int, on bool) {
	l.t.Helper()
	l.change(i, "silencing", func(ln *line) error {
		return errors.Join(ln.setSilence(on), ln.setMute(on && ln.muted))
	})
}

// SilenceAll is Silence, and the gateway itself answers nothing either. What the client already knows of its
// neighbours it goes on believing for a while. Off undoes Silence too.
func (l *Lab) SilenceAll(i int, on bool) {
	l.t.Helper()
	l.change(i, "silencing", func(ln *line) error {
		return errors.Join(ln.setSilence(on), ln.setMute(on))
	})
}

func (ln *line) setSilence(on bool) error {
	if ln.silenced == on {
		return nil
	}
	ln.silenced = on
	return setRules(ln.isp.nl, on, dropFrom(prefSilence, ispLine, ispCore))
}

// setMute makes a rule come before local delivery. That includes ARP, which is answered if a route says that the
// target is local, and neighbour solicitations, which are routed as any packet.
func (ln *line) setMute(on bool) error {
	if ln.muted == on {
		return nil
	}
	ln.muted = on
	return setRules(ln.isp.nl, on, dropFrom(prefMute, ispLine))
}

// SetRate limits line i to so many bits per second in each direction; 0 lifts the limit.
func (l *Lab) SetRate(i int, bits uint64) {
	l.t.Helper()
	l.changePlugged(i, "setting the rate", func(ln *line) error {
		ln.cfg.Rate = bits
		return l.setRate(ln)
	})
}

// SetDefault4 adds the IPv4 default route of line i to the client's main table, or removes it. Policy routes stay.
func (l *Lab) SetDefault4(i int, on bool) {
	l.t.Helper()
	l.changePlugged(i, "setting the default route", func(ln *line) error {
		ln.cfg.NoDefault4 = !on
		return l.setDefault(ln, ln.cfg.Gateway4, on)
	})
}

// SetDefault6 adds the IPv6 default route of line i to the client's main table, or removes it. Policy routes stay.
func (l *Lab) SetDefault6(i int, on bool) {
	l.t.Helper()
	l.changePlugged(i, "setting the default route", func(ln *line) error {
		ln.cfg.NoDefault6 = !on
		return l.setDefault(ln, ln.cfg.Gateway6, on)
	})
}

// SetPortRange limits the ports that the client's kernel chooses source ports from (both ends included).
func (l *Lab) SetPortRange(lo, hi uint16) {
	l.t.Helper()
	if err := writeSysctls([]sysctl{{"ipv4/ip_local_port_range", fmt.Sprintf("%d %d", lo, hi)}}); err != nil {
		l.t.Errorf("netlab: limiting source ports to %d..%d: %v", lo, hi, err)
	}
}
