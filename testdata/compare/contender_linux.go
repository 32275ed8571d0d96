package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
)

// contender is one way to reach a server: directly, or through a proxy in one of the protocols it speaks.
type contender struct {
	name   string
	by     *instance      // nil: direct
	server netip.AddrPort // the first of its server's ports
	dial   dialer
	// Where plain HTTP requests go, and whether their target is absolute, as proxies want it. The zero value: it takes none.
	http     netip.AddrPort
	absolute bool
}

// instance is a proxy that is started when it is first needed.
type instance struct {
	*proxy
	run *process // nil: not started
}

// running returns the process, started again where it has ended. The proxies of a comparison run side by side, as
// an idle process costs nothing.
func (i *instance) running(ctx context.Context) (*process, error) {
	if i.run != nil {
		select {
		case <-i.run.ended:
			i.run = nil
		default:
			return i.run, nil
		}
	}
	run, err := i.proxy.start(ctx)
	i.run = run
	return run, err
}

// stop ends the process, so that the next use finds a fresh one.
func (i *instance) stop() error {
	if i == nil || i.run == nil {
		return nil
	}
	run := i.run
	i.run = nil
	return run.stop()
}

// ports of the namespace, which is empty when the comparison starts: below those that connections are given.
const (
	firstProxyPort  = 2000
	firstServerPort = 4000
)

// field makes all contenders that the user wants, the direct one first.
func field(ctx context.Context, dir string, o options) ([]*contender, error) {
	f := fieldMaker{o: o, plant: &plant{dir: dir, last: firstProxyPort}, server: netip.AddrPortFrom(loopback, firstServerPort)}
	f.all = []*contender{{name: "direct", server: f.server, dial: straight(f.server), http: at(f.server, serviceHTTP)}}
	if err := f.addOurs(dir); err != nil {
		return nil, err
	}
	for _, b := range o.binaries {
		if err := f.addTwice(b.name, func(as *identity) (*proxy, error) { return f.plant.binary(b, as) }); err != nil {
			return nil, err
		}
	}
	for _, r := range rivals() {
		if !f.wanted(r.name) {
			continue
		}
		p, err := r.find(ctx, f.plant, f.nextServer())
		if errors.Is(err, exec.ErrNotFound) {
			fmt.Fprintf(os.Stderr, "compare: *** %s IS NOT INSTALLED AND IS LEFT OUT; on Debian: apt-get install --no-install-recommends %s\n", r.name, r.pkg)
			continue
		}
		if err != nil {
			return nil, err
		}
		f.add(p)
	}
	return f.all, f.check()
}

// check finds what -only names and is not there. Of rivals that are not installed the user has been told.
func (f *fieldMaker) check() error {
	known := []string{}
	for _, c := range f.all[1:] {
		known = append(known, c.name)
	}
	for _, name := range f.o.only {
		isRival := slices.ContainsFunc(rivals(), func(r rival) bool { return r.name == name })
		if !isRival && !slices.Contains(known, name) {
			return fmt.Errorf("-only: there is no %q; without -only all take part", name)
		}
	}
	if len(known) == 0 {
		return errors.New("none of the programs to compare is installed")
	}
	return nil
}

type fieldMaker struct {
	o      options
	plant  *plant
	server netip.AddrPort // of the contender that was made last
	all    []*contender
}

func (f *fieldMaker) addOurs(dir string) error {
	return f.addTwice("dispatch", func(as *identity) (*proxy, error) { return f.plant.dispatch(dispatchIn(dir), as) })
}

// addTwice adds a program, and, where the user wants that, a second one that runs as another user.
func (f *fieldMaker) addTwice(name string, start func(as *identity) (*proxy, error)) error {
	identities := []*identity{nil}
	if f.o.user != "" {
		as, err := identify(f.o.user)
		if err != nil {
			return err
		}
		identities = append(identities, as)
	}
	for _, as := range identities {
		if !f.wanted(as.mark(name)) {
			continue
		}
		p, err := start(as)
		if err != nil {
			return err
		}
		f.nextServer()
		f.add(p)
	}
	return nil
}

// connectMark follows the name of a contender that is the CONNECT of a proxy that speaks SOCKS as well.
const connectMark = "+connect"

// wanted tells whether the user wants a program, in any protocol.
func (f *fieldMaker) wanted(name string) bool {
	return len(f.o.only) == 0 || slices.Contains(f.o.only, name) || slices.Contains(f.o.only, name+connectMark)
}

func (f *fieldMaker) nextServer() netip.AddrPort {
	f.server = at(f.server, services)
	return f.server
}

// add makes the contenders of one proxy: one for each protocol that it tunnels in.
func (f *fieldMaker) add(p *proxy) {
	by := &instance{proxy: p}
	first := &contender{name: p.name, by: by, server: f.server, http: p.http, absolute: true}
	switch {
	case p.socks.IsValid():
		first.dial = through(p.socks, f.server, socks5)
	case p.http.IsValid():
		first.dial = through(p.http, f.server, httpConnect)
	default:
		first.dial = forwarded(p)
		first.http, first.absolute = p.forward[serviceHTTP], false
	}
	ways := []*contender{first}
	if p.socks.IsValid() && p.http.IsValid() {
		ways = append(ways, &contender{name: p.name + connectMark, by: by, server: f.nextServer(), dial: through(p.http, f.server, httpConnect)})
	}
	for _, c := range ways {
		if len(f.o.only) == 0 || slices.Contains(f.o.only, c.name) {
			f.all = append(f.all, c)
		}
	}
}
