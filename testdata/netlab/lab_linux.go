package netlab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Lab is a running test network. It is gone when the test that made it ends.
type Lab struct {
	// Internet is the machine with the servers. It knows a route to every line, and answers packets to addresses
	// that nobody has with "unreachable".
	Internet *Machine

	// Server4 and Server6 are server addresses that exist from the start. See ServerAddr for more.
	Server4, Server6 netip.Addr

	t      testing.TB
	client *Machine

	mu    sync.Mutex // held while the network is changed
	lines []*line
}

// oneClient is the lock on the one client machine of this process. It is a package variable because what it guards, the network
// namespace that the process runs in, is one per process as well.
var oneClient struct {
	sync.Mutex
	owner atomic.Pointer[string]
}

// New builds the network and has it torn down when t ends. It skips or fails t, saying why, where there can be no
// lab; it waits while another test of the process has one.
func New(t testing.TB, cfg Config) *Lab {
	t.Helper()
	Require(t)
	uplinks, err := cfg.complete()
	if err != nil {
		t.Fatalf("netlab: %v", err)
	}
	takeClient(t)

	l := &Lab{t: t, Server4: netip.AddrFrom4([4]byte{198, 18, 0, 1}), Server6: netip.MustParseAddr("2001:db8:5e::1")}
	t.Cleanup(l.tearDown)
	if err := l.build(uplinks); err != nil {
		t.Fatalf("netlab: building the network: %v", err)
	}
	return l
}

// takeClient makes t the one test that has the client machine, until it ends.
func takeClient(t testing.TB) {
	t.Helper()
	if owner := oneClient.owner.Load(); owner != nil && (t.Name() == *owner || strings.HasPrefix(t.Name(), *owner+"/")) {
		t.Fatalf("netlab: %s has a lab already, and this process is its client: use that one, or end it first", *owner)
	}
	oneClient.Lock()
	name := t.Name()
	oneClient.owner.Store(&name)
	t.Cleanup(func() {
		oneClient.owner.Store(nil)
		oneClient.Unlock()
	})
}

func (l *Lab) build(uplinks []Uplink) error {
	var err error
	if l.client, err = clientMachine(l.t); err != nil {
		return err
	}
	if l.Internet, err = newMachine(l.t, "the internet", routerSysctls()); err != nil {
		return err
	}
	for i, u := range uplinks {
		if err := l.addLine(i, u); err != nil {
			return fmt.Errorf("uplink %d (%s): %w", i, u.Name, err)
		}
	}
	return l.addServers(l.Server4, l.Server6)
}

// tearDown deletes what is on the client machine and lets go of the other machines.
func (l *Lab) tearDown() {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	if l.client != nil {
		errs = append(errs, l.removeLines(), writeSysctls(clientSysctls()), freePorts(), l.client.close())
	}
	if l.Internet != nil {
		errs = append(errs, l.Internet.close())
	}
	if err := errors.Join(errs...); err != nil {
		l.t.Errorf("netlab: tearing the network down: %v", err)
	}
}

// Uplink returns line i, counted from 0, with the defaults of Config filled in, and as Readdress, SetDefault4,
// SetDefault6 and SetRate have left it.
func (l *Lab) Uplink(i int) Uplink {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.lines[i].cfg
	u.Extra = slices.Clone(u.Extra)
	return u
}

// ISP returns the router at the far end of line i. Its interface to the client is "line", the other one "core".
func (l *Lab) ISP(i int) *Machine { return l.lines[i].isp }

// ServerAddr gives the internet more addresses to listen on. A connection to a port on which nobody does is refused.
func (l *Lab) ServerAddr(addrs ...netip.Addr) {
	l.t.Helper()
	if err := l.addServers(addrs...); err != nil {
		l.t.Errorf("netlab: %v", err)
	}
}

func (l *Lab) addServers(addrs ...netip.Addr) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range addrs {
		for _, ln := range l.lines {
			if ln.cfg.IPv4.Masked().Contains(a) || ln.cfg.IPv6.Masked().Contains(a) {
				return fmt.Errorf("server address %v is in the prefix of %s: choose one that is in no line's", a, ln.cfg.Name)
			}
		}
		if err := l.Internet.setAddr(loopbackIndex, netip.PrefixFrom(a, a.BitLen()), Addr{}); err != nil {
			return fmt.Errorf("adding server address %v: %w", a, err)
		}
	}
	return nil
}
