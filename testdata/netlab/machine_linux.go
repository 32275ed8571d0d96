package netlab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Machine is a machine of the lab other than the client: an ISP's router, or the internet.
type Machine struct {
	t    testing.TB
	name string
	ns   netns.NsHandle  // None for the client, which every thread is on that does not leave it
	nl   *netlink.Handle // of this machine's namespace, usable from any thread

	mu    sync.Mutex
	fates map[netip.Addr]Fate // what Block has set, other than Deliver
}

// newMachine makes a machine with loopback up and the given sysctls; the caller closes it.
func newMachine(t testing.TB, name string, settings []sysctl) (*Machine, error) {
	m := &Machine{t: t, name: name, ns: netns.None(), fates: map[netip.Addr]Fate{}}
	err := onOwnThread(func() (err error) {
		if m.ns, err = netns.New(); err != nil {
			return fmt.Errorf("making a namespace: %w", err)
		}
		if m.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
			return fmt.Errorf("opening a netlink socket: %w", err)
		}
		return errors.Join(writeSysctls(settings), loopbackUp(m.nl), makeRoomBeforeLocal(m.nl))
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), m.close())
	}
	return m, nil
}

// clientMachine is the machine that this process runs on, cleared of what it inherited.
func clientMachine(t testing.TB) (*Machine, error) {
	if err := writeSysctls(clientSysctls()); err != nil {
		return nil, fmt.Errorf("the client: %w", err)
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("the client: opening a netlink socket: %w", err)
	}
	return &Machine{t: t, name: "the client", ns: netns.None(), nl: nl}, nil
}

// close lets go of the machine. The kernel removes it, with the links in it, when the last socket in it is closed.
func (m *Machine) close() error {
	if m.nl != nil {
		m.nl.Close()
	}
	if !m.ns.IsOpen() {
		return nil
	}
	return m.ns.Close()
}

// Do runs fn on a thread that is on the machine, and returns its error. Sockets that fn makes stay on the machine
// and can be used from any goroutine afterwards. What fn starts with "go" is on the client, not on the machine.
// fn must not call t.Fatal and its like. The thread ends with fn, so fn may do to it what it likes.
func (m *Machine) Do(fn func() error) error {
	return onOwnThread(func() error {
		if m.ns.IsOpen() {
			if err := netns.Set(m.ns); err != nil {
				return fmt.Errorf("netlab: entering %s: %w", m.name, err)
			}
		}
		return fn()
	})
}

// onOwnThread runs fn on a thread that no other goroutine has used since, or will use after, and returns its error.
func onOwnThread(fn func() error) error {
	result := make(chan error, 1)
	go ownThread(fn, result)
	return <-result
}

func ownThread(fn func() error, result chan<- error) {
	err := errors.New("netlab: the function left its goroutine (t.Fatal must be called on the test's own)")
	defer func() { result <- err }()
	// A goroutine that ends while locked takes its thread with it: it cannot come back into the pool as a thread
	// that is on the wrong machine.
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The main thread does not end, and /proc/net is what *it* sees: hold it here, which gives the next
		// goroutine another thread.
		defer runtime.UnlockOSThread()
		err = onOwnThread(fn)
		return
	}
	err = fn()
}

// A sysctl is a file under /proc/sys/net. The kernel resolves that directory for the thread that opens it, so
// writing it has to happen on a thread of the machine that is meant.
type sysctl struct {
	name  string // such as "ipv4/ip_forward"
	value string
}

func sysctlPath(name string) string { return filepath.Join("/proc/sys/net", name) }

func writeSysctls(settings []sysctl) error {
	for _, s := range settings {
		if err := os.WriteFile(sysctlPath(s.name), []byte(s.value), 0); err != nil {
			return fmt.Errorf("setting a sysctl to %q (is IPv6 off in this kernel?): %w", s.value, err)
		}
	}
	return nil
}

// routerSysctls make an ISP or the internet. A new namespace may inherit any value, so all that matter are here.
func routerSysctls() []sysctl {
	return []sysctl{
		{"ipv4/ip_forward", "1"}, // first: it resets others
		{"ipv4/conf/all/rp_filter", "0"},
		{"ipv4/conf/default/rp_filter", "0"},
		{"ipv4/conf/all/arp_ignore", "1"}, // ARP is answered for the interface's own address only
		{"ipv4/conf/all/proxy_arp", "0"},
		{"ipv4/conf/default/proxy_arp", "0"},
		{"ipv4/conf/all/send_redirects", "0"},
		{"ipv4/conf/default/send_redirects", "0"},
		{"ipv4/icmp_ratelimit", "0"}, // tests ask for more errors per second than people do
		{"ipv6/conf/all/disable_ipv6", "0"},
		{"ipv6/conf/default/disable_ipv6", "0"},
		{"ipv6/conf/all/forwarding", "1"},
		{"ipv6/conf/all/proxy_ndp", "0"},
		{"ipv6/conf/default/proxy_ndp", "0"},
		{"ipv6/conf/all/accept_dad", "0"},
		{"ipv6/conf/default/accept_dad", "0"},
		{"ipv6/conf/all/keep_addr_on_down", "1"}, // an ISP's router comes back configured
		{"ipv6/conf/default/keep_addr_on_down", "1"},
		{"ipv6/icmp/ratelimit", "0"},
	}
}

// clientSysctls undo what the client machine inherited, or an earlier test left behind.
func clientSysctls() []sysctl {
	return []sysctl{
		{"ipv4/ip_forward", "0"}, // first: it resets others
		{"ipv4/conf/all/rp_filter", "0"},
		{"ipv4/conf/default/rp_filter", "0"},
		{"ipv4/conf/all/arp_ignore", "0"},
		{"ipv4/conf/all/arp_announce", "0"},
		{"ipv4/conf/all/accept_local", "0"},
		{"ipv4/ip_nonlocal_bind", "0"},
		{"ipv4/ip_local_port_range", "32768 60999"},
		{"ipv4/tcp_no_metrics_save", "1"}, // what one test learnt about a path is not another's
		{"ipv6/conf/all/disable_ipv6", "0"},
		{"ipv6/conf/default/disable_ipv6", "0"},
		{"ipv6/conf/all/forwarding", "0"},
		{"ipv6/conf/all/accept_dad", "0"}, // an address is usable at once, the link-local one too
		{"ipv6/conf/default/accept_dad", "0"},
		{"ipv6/conf/default/dad_transmits", "1"},
		{"ipv6/conf/default/accept_ra", "0"},
		{"ipv6/conf/default/use_tempaddr", "0"},
		{"ipv6/conf/all/keep_addr_on_down", "0"},
		{"ipv6/conf/default/keep_addr_on_down", "0"},
	}
}
