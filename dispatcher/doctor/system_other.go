//go:build !linux

package doctor

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
)

// What the systems other than Linux have in common: the routes that uplink lists are all that is known of them, and a
// router tells that it is alive by refusing a connection.

const answerTime = 3 * time.Second

// examineRoutes looks for the interface's own default route.
func (e *examination) examineRoutes(l *line, f machine.Family, _ error) {
	r, ok := ownDefaultRoute(l, f)
	if !ok {
		status := Fail
		if !routedByInterface {
			status = Warn // the machine may have means that a program cannot see
		}
		commands, advice := missingRoute(l, f)
		l.note(status, CheckRoute, f, commands, "%s has no default route: %s", l.Interface, advice)
	} else {
		l.route[f] = r
		if r.Router.IsValid() {
			l.pass(CheckRoute, f, "the default route is by %s with metric %d", r.Router, r.Metric)
		} else {
			l.pass(CheckRoute, f, "the default route is the link itself with metric %d", r.Metric)
		}
	}
	noteVPN(l, f, e.unboundOwner(f))
}

// ownDefaultRoute is the best default route that the OS lists for the line's interface.
func ownDefaultRoute(l *line, f machine.Family) (machine.DefaultRoute, bool) {
	return l.iface.DefaultRoute(f)
}

// noteSharedNetwork: where sockets are tied to interfaces, two on one network do work, but are hardly two lines.
func (e *examination) noteSharedNetwork(l *line, f machine.Family, other *machine.Interface, network netip.Prefix) {
	mine, _ := ownDefaultRoute(l, f)
	others, _ := other.DefaultRoute(f)
	if mine.Router.IsValid() && mine.Router == others.Router {
		l.warn(CheckNetwork, f, nil, "%s is on the network %s too, with the same router: the two share one connection to the internet", other.Name, network)
		return
	}
	l.warn(CheckNetwork, f, nil, "%s is on the network %s too", other.Name, network)
}

// examineRouters knocks at all routers at once. A silent one is nothing to tell: many say nothing to strangers.
func (e *examination) examineRouters(ctx context.Context) {
	if e.RouterTimeout < 0 {
		return
	}
	timeout := e.RouterTimeout
	if timeout == 0 {
		timeout = answerTime
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var mu sync.Mutex
	var running sync.WaitGroup
	for _, l := range e.lines {
		for _, f := range families {
			r, ok := l.route[f]
			if !ok || !r.Router.IsValid() {
				continue
			}
			running.Go(func() {
				err := knock(ctx, l, r.Router)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil, uplink.FailureOf(err) == uplink.Refused:
					l.pass(CheckRouter, f, "the router %s answers", r.Router)
				case unreachable(err):
					l.fail(CheckRouter, f, nil, "the router %s does not answer: look whether it is switched on and this is its network, or restart it", r.Router)
				}
			})
		}
	}
	running.Wait()
}

// unreachable tells whether the machine has asked for the router's link address in vain.
func unreachable(err error) bool { return uplink.FailureOf(err) == uplink.HostUnreachable }

// knock sends the beginning of a connection to a port that nobody serves.
func knock(ctx context.Context, l *line, router netip.Addr) error {
	if router.IsLinkLocalUnicast() {
		router = router.WithZone(zoneOf(l))
	}
	conn, err := l.way.DialStream(ctx, uplink.To(netip.AddrPortFrom(router, discardPort)))
	if err != nil {
		return err
	}
	return conn.Close()
}

// afterwards says nothing: these systems set an interface up again by themselves.
func (e *examination) afterwards(*line) string { return "" }

// readdress asks for an address anew.
func (e *examination) readdress(l *line) ([]string, string) { return renew(l.Interface), "" }

func (e *examination) raise(l *line) []string { return switchOn(l.Interface) }

// isPort: members of a bridge have no address and are left out for that.
func isPort(string) bool { return false }
