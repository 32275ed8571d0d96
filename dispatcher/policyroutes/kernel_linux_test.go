package policyroutes

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
	"dispatch/testdata/netlab"
)

// roleEnv makes a test binary play a part of one of these tests.
const roleEnv = "DISPATCH_ROUTES_ROLE"

var wans = []string{"wan1", "wan2", "wan3"}

func routesLab(t *testing.T) (lab *netlab.Lab, servers []netip.AddrPort) {
	t.Helper()
	strict := netlab.Uplink{RPFilter: 1}
	lab = netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{strict, strict, strict}})
	for _, a := range []netip.Addr{lab.Server4, lab.Server6} {
		servers = append(servers, lab.EchoPeer(t, netip.AddrPortFrom(a, 0)))
	}
	return lab, servers
}

func specsOf(t *testing.T, names ...string) []uplink.Spec {
	t.Helper()
	list, err := uplink.ParseSpecs(names)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// applyAll has to leave no line out.
func applyAll(t *testing.T, r *Routes) {
	t.Helper()
	missing, err := r.Apply(specsOf(t, wans...)...)
	if err != nil || len(missing) > 0 {
		t.Fatalf("apply: %v, missing %+v", err, missing)
	}
}

func removeAll(t *testing.T, r *Routes) {
	t.Helper()
	if err := r.Remove(); err != nil {
		t.Fatalf("remove: %v", err)
	}
}

func unfix(t *testing.T) {
	t.Helper()
	c, err := PlanUnfix()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Make(), c.Close()); err != nil {
		t.Fatal(err)
	}
}

// seenAs dials through the uplink and returns the source that the server saw.
func seenAs(t *testing.T, name string, server netip.AddrPort, within time.Duration) (netip.Addr, error) {
	t.Helper()
	set, err := uplink.NewFleet(new(machine.Table), specsOf(t, name))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	conn, err := set.Uplinks()[0].DialStream(ctx, uplink.To(server))
	if err != nil {
		return netip.Addr{}, err
	}
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return netip.Addr{}, errors.Join(err, conn.Close())
	}
	peer, err := netlab.ReadPeer(conn)
	return peer.Addr(), errors.Join(err, conn.Close())
}

// carries wants all lines to reach all servers from their own addresses.
func carries(t *testing.T, lab *netlab.Lab, servers []netip.AddrPort) {
	t.Helper()
	for n, name := range wans {
		for _, server := range servers {
			want := lab.Uplink(n).IPv4.Addr()
			if server.Addr().Is6() {
				want = lab.Uplink(n).IPv6.Addr()
			}
			if got, err := seenAs(t, name, server, 10*time.Second); err != nil || got != want {
				t.Errorf("%s to %s: seen as %s, %v; want %s", name, server, got, err, want)
			}
		}
	}
}

// rulesAndRoutes is all that the kernel tells of rules, and of routes in all tables, byte for byte.
func rulesAndRoutes(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, kind := range []int{unix.RTM_GETRULE, unix.RTM_GETROUTE} {
		answer, err := syscall.NetlinkRIB(kind, unix.AF_UNSPEC)
		if err != nil {
			t.Fatal(err)
		}
		entries, err := syscall.ParseNetlinkMessage(answer)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Header.Type != unix.NLMSG_DONE {
				list = append(list, fmt.Sprintf("%d %x", e.Header.Type, e.Data))
			}
		}
	}
	slices.Sort(list)
	return list
}

func sameAs(t *testing.T, when string, before []string) {
	t.Helper()
	after := rulesAndRoutes(t)
	for _, e := range before {
		if !slices.Contains(after, e) {
			t.Errorf("%s: gone: %s", when, e)
		}
	}
	for _, e := range after {
		if !slices.Contains(before, e) {
			t.Errorf("%s: added: %s", when, e)
		}
	}
}

// routeEvents returns a function that counts the kernel's notifications of routes and rules since its last call. The
// kernel queues them before it answers who made the change, so there is nothing to wait for.
func routeEvents(t *testing.T) func() int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Close(fd); err != nil {
			t.Error(err)
		}
	})
	var groups uint32
	for _, g := range []int{unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE} {
		groups |= 1 << (g - 1)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		t.Fatal(err)
	}
	return func() (n int) {
		for buf := make([]byte, 64<<10); ; n++ {
			if _, _, err := unix.Recvfrom(fd, buf, 0); errors.Is(err, unix.EAGAIN) {
				return n
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestRoutesSecondApplyIsSilent(t *testing.T) {
	lab, servers := routesLab(t)
	for _, name := range wans[1:] {
		if got, err := seenAs(t, name, servers[0], 400*time.Millisecond); err == nil {
			t.Fatalf("%s works without policy routes, seen as %s: this lab proves nothing", name, got)
		}
	}
	before := rulesAndRoutes(t)
	r, events := New(), routeEvents(t)
	applyAll(t, r)
	first := events()
	if first == 0 {
		t.Fatal("no change was announced: the count of changes proves nothing")
	}
	carries(t, lab, servers)
	applyAll(t, r)
	if n := events(); n > 0 {
		t.Errorf("the second Apply made %d changes", n)
	}
	removeAll(t, r)
	sameAs(t, "after Remove", before)
	t.Logf("changes announced: %d by the first Apply, none by the second", first)
}

// The main table's default routes may go, as a VPN takes them away: the routers are still known.
func TestRoutesOutliveTheMainTable(t *testing.T) {
	lab, servers := routesLab(t)
	r := New()
	applyAll(t, r)
	for n := range wans {
		lab.SetDefault4(n, false)
		lab.SetDefault6(n, false)
	}
	applyAll(t, r)
	carries(t, lab, servers)
	removeAll(t, r)
}

// role starts this binary again, in the client's network, and returns when it says that it is ready.
func role(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestRoutesRole$")
	cmd.Env = append(os.Environ(), roleEnv+"="+name)
	cmd.Stderr = os.Stderr
	// Its standard input ends with this process at the latest, and that is its end too.
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the other process said %q, %v", line, errors.Join(err, cmd.Wait()))
	}
	return cmd
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var status *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &status) {
		t.Fatalf("the killed process ended with %v", err)
	}
}

// TestRoutesRole is no test of its own, but the other process of some.
func TestRoutesRole(t *testing.T) {
	switch os.Getenv(roleEnv) {
	case "apply":
		applyAll(t, New())
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin) // until killed
	case "nobody":
		_, err := New().Apply(specsOf(t, wans...)...)
		fmt.Printf("can: %v\napply: %v\n", Allowed(), err)
	}
}

// What a killed process has left is taken away by the next one, or by --unfix.
func TestRoutesCrash(t *testing.T) {
	lab, servers := routesLab(t)
	before := rulesAndRoutes(t)
	crashed := role(t, "apply")
	carries(t, lab, servers)
	kill(t, crashed)
	if slices.Equal(rulesAndRoutes(t), before) {
		t.Fatal("the crash left nothing behind: it proves nothing")
	}
	r := New()
	applyAll(t, r)
	carries(t, lab, servers)
	removeAll(t, r)
	sameAs(t, "taken over and removed", before)

	kill(t, role(t, "apply"))
	unfix(t)
	sameAs(t, "removed by --unfix", before)
}

// Of several processes that start at one moment, one manages the routes, and the others say who does.
func TestRoutesStartTogether(t *testing.T) {
	lab, servers := routesLab(t)
	before := rulesAndRoutes(t)
	all, errs := make([]*Routes, 6), make([]error, 6)
	specs := specsOf(t, wans...)
	var running sync.WaitGroup
	for n := range all {
		all[n] = New()
		running.Go(func() { _, errs[n] = all[n].Apply(specs...) })
	}
	running.Wait()
	winners := 0
	for n, err := range errs {
		switch {
		case err == nil:
			winners++
		case !errors.Is(err, errHeld) || !strings.Contains(err.Error(), "/run/dispatch-routes-"):
			t.Errorf("process %d: %v", n, err)
		}
	}
	if winners != 1 {
		t.Errorf("%d processes manage the routes", winners)
	}
	carries(t, lab, servers)
	for _, r := range all {
		if err := r.Remove(); err != nil {
			t.Error(err)
		}
	}
	sameAs(t, "all gone", before)
}

// --unfix holds its plan while it waits for its user's answer.
func TestRoutesStartWhileUnfixAsks(t *testing.T) {
	lab, servers := routesLab(t)
	asking, err := PlanUnfix()
	if err != nil {
		t.Fatal(err)
	}
	r := New()
	if missing, err := r.Apply(specsOf(t, wans...)...); err != nil || len(missing) > 0 {
		t.Errorf("apply while --unfix waits: %v, missing %+v", err, missing)
	}
	carries(t, lab, servers)
	if err := errors.Join(asking.Make(), asking.Close()); err != nil {
		t.Error(err)
	}
	carries(t, lab, servers)
	removeAll(t, r)

	// What it was to remove of a dead process may be a living one's by then.
	kill(t, role(t, "apply"))
	if asking, err = PlanUnfix(); err != nil {
		t.Fatal(err)
	}
	applyAll(t, r)
	if err := asking.Make(); !errors.Is(err, errHeld) {
		t.Errorf("removed under a living process: %v", err)
	}
	carries(t, lab, servers)
	removeAll(t, r)
	if err := asking.Close(); err != nil {
		t.Error(err)
	}
}

// Nobody, on the client's own network: told so before anything is tried.
func TestRoutesUnprivileged(t *testing.T) {
	routesLab(t)
	needNobody(t)
	before := rulesAndRoutes(t)
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestRoutesRole$")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), roleEnv+"=nobody")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := strings.Count(string(out), "CAP_NET_ADMIN"); n != 2 {
		t.Errorf("nobody is told %q", out)
	}
	sameAs(t, "after nobody tried", before)
	t.Logf("%s", out)
}

// needNobody skips where there is but one user, as in the namespace that an ordinary user can make.
func needNobody(t *testing.T) {
	t.Helper()
	users, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Fatal(err)
	}
	if fields := strings.Fields(string(users)); len(fields) == 3 && fields[2] == "4294967295" {
		return
	}
	if os.Getenv(netlab.RequireEnv) == "1" {
		t.Fatalf("this test did NOT RUN, and %s=1 demands it: it needs a second user", netlab.RequireEnv)
	}
	t.Skip("this test did NOT RUN: it needs a second user, as a real root has")
}

// Apply in Watch's callback, as start does it: its own changes wake the watch again, and that has to end.
func TestRoutesWatchSettles(t *testing.T) {
	lab, servers := routesLab(t)
	set, err := uplink.NewFleet(new(machine.Table), specsOf(t, wans...))
	if err != nil {
		t.Fatal(err)
	}
	r, specs := New(), specsOf(t, wans...)
	var calls atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		set.Watch(ctx, slog.New(slog.DiscardHandler), func(*uplink.View) {
			calls.Add(1)
			if _, err := r.Apply(specs...); err != nil {
				t.Error(err)
			}
		})
	})
	settle := func(what string) {
		t.Helper()
		from, begun := calls.Load(), time.Now()
		for last, quiet := int64(-1), time.Now(); time.Since(quiet) < 500*time.Millisecond; time.Sleep(10 * time.Millisecond) {
			if now := calls.Load(); now != last {
				last, quiet = now, time.Now()
			}
			if time.Since(begun) > 10*time.Second {
				t.Fatalf("%s: still changing after %d calls", what, calls.Load()-from)
			}
		}
		t.Logf("%s: settled after %d calls", what, calls.Load()-from)
	}
	settle("start")
	carries(t, lab, servers)
	lab.ClientLink(1, false)
	settle("link down")
	lab.ClientLink(1, true)
	settle("link up")
	carries(t, lab, servers)
	for range 100 { // quicker than the pause between two readings
		lab.ClientLink(1, false)
		lab.ClientLink(1, true)
	}
	settle("link down and up at once")
	for _, server := range servers {
		got, err := seenAs(t, "wan2", server, 700*time.Millisecond)
		t.Logf("after a quick flap wan2 to %s: seen as %v, %v", server.Addr(), got, err)
	}
	// Somebody flushes our rules of one line: no line of the view may differ, but the routes are wrong.
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "while ip rule del from 203.0.113.2; do :; done 2>/dev/null")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	settle("rules deleted by somebody")
	_, err = seenAs(t, "wan2", servers[0], 700*time.Millisecond)
	t.Logf("after somebody deleted the rules, wan2: %v (nil: they were restored)", err)
	cancel()
	watching.Wait()
	removeAll(t, r)
}

// A route that the kernel refuses costs its own line only, and that is told.
func TestRoutesThatTheKernelRefuses(t *testing.T) {
	lab, servers := routesLab(t)
	// The router is on no network of the interface any more, as when the announced prefix has run out.
	prefix := lab.Uplink(1).IPv6.Masked().String()
	if out, err := exec.CommandContext(t.Context(), "ip", "-6", "route", "del", prefix, "dev", wans[1]).CombinedOutput(); err != nil {
		t.Fatalf("%v, %s", err, out)
	}
	r := New()
	defer removeAll(t, r)
	missing, err := r.Apply(specsOf(t, wans...)...)
	if err != nil || len(missing) != 1 || missing[0].Uplink != wans[1] || missing[0].Family != machine.IPv6 {
		t.Fatalf("apply: %v, missing %+v", err, missing)
	}
	for n, name := range wans {
		for _, server := range servers {
			if n == 1 && server.Addr().Is6() {
				continue
			}
			if _, err := seenAs(t, name, server, 5*time.Second); err != nil {
				t.Errorf("%s to %s: %v", name, server, err)
			}
		}
	}
	rules, err := exec.CommandContext(t.Context(), "ip", "-6", "rule").CombinedOutput()
	if err != nil || strings.Contains(string(rules), lab.Uplink(1).IPv6.Addr().String()) {
		t.Errorf("%v; is there a rule that leads to no route?\n%s", err, rules)
	}
}
