package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dispatch/testdata/netlab"
)

// request is one of a load.
type request struct {
	protocol string
	at       time.Time
	took     time.Duration
	line     int // that served it
	err      error
}

// load makes n requests at a steady rate, by all protocols and to several destinations in turn, whatever becomes of the
// ones before, and returns them in their order.
func load(ctx context.Context, lab *netlab.Lab, p *process, n int) []request {
	hosts := []string{server4, otherServer4}
	protocols := []string{"SOCKS5", "SOCKS4a", "CONNECT", "plain HTTP"}
	all := make([]request, n)
	var running sync.WaitGroup
	ticker := time.NewTicker(time.Second / healingRate)
	defer ticker.Stop()
	for i := range all {
		running.Go(func() {
			r := &all[i]
			r.protocol, r.line = protocols[i%len(protocols)], -1
			start := time.Now()
			r.at = start
			peer, err := clients[r.protocol](ctx, p, hosts[i/len(protocols)%len(hosts)])
			r.took, r.err = time.Since(start), err
			for line := range 3 {
				if u := lab.Uplink(line); err == nil && (peer == u.IPv4.Addr() || peer == u.IPv6.Addr()) {
					r.line = line
				}
			}
		})
		<-ticker.C
	}
	running.Wait()
	return all
}

// inFlight is the most that a session takes when nothing is wrong.
const inFlight = 100 * time.Millisecond

// judge fails the test for each request that failed, except sessions that a line's death caught under way: of those
// only their application can know whether to begin again.
func judge(t *testing.T, all []request, cuts ...time.Time) {
	t.Helper()
	var took []time.Duration
	failed, caught := 0, 0
	for _, r := range all {
		if r.err == nil {
			took = append(took, r.took)
			continue
		}
		if slices.ContainsFunc(cuts, func(cut time.Time) bool { return r.at.Before(cut) && r.at.After(cut.Add(-inFlight)) }) {
			caught++
			continue
		}
		if failed++; failed <= 10 {
			t.Errorf("%s, after %v: %v", r.protocol, r.took, r.err)
		}
	}
	slices.Sort(took)
	if failed > 0 {
		t.Errorf("%d of %d requests failed", failed, len(all))
	}
	t.Logf("%d requests, %d failed, %d caught under way by the death of their line; took p50 %v, p99 %v, worst %v",
		len(all), failed, caught, percentile(took, 50), percentile(took, 99), percentile(took, 100))
}

func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)-1)*p/100].Round(time.Microsecond)
}

// during runs change while a load is under way, and returns the load.
func during(t *testing.T, lab *netlab.Lab, p *process, change func(at func(time.Duration))) []request {
	t.Helper()
	began := time.Now()
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		change(func(d time.Duration) { time.Sleep(time.Until(began.Add(d))) })
	}()
	all := load(t.Context(), lab, p, healingRequests)
	<-changed
	return all
}

const (
	healingRequests = 2000
	healingRate     = 100 // a second
	otherServer4    = "198.18.0.2"
)

// healed is a world with a further server, and its gateway.
func healed(t *testing.T) (*netlab.Lab, *process) {
	t.Helper()
	lab := world(t, netlab.Config{})
	lab.ServerAddr(netip.MustParseAddr(otherServer4))
	lab.EchoPeer(t, netip.AddrPortFrom(netip.MustParseAddr(otherServer4), peerPort))
	lab.EchoPeerHTTP(t, netip.AddrPortFrom(netip.MustParseAddr(otherServer4), webPort))
	return lab, start(t, "--dns", dnsServer, "wan1", "wan2", "wan3")
}

// lines counts the requests by line.
func byLine(all []request) (count [3]int) {
	for _, r := range all {
		if r.line >= 0 {
			count[r.line]++
		}
	}
	return count
}

// A line's link goes down and comes back, while 100 requests a second go out: none fails.
func TestHealingLinkDownAndUp(t *testing.T) {
	lab, p := healed(t)
	var cut, back time.Time
	all := during(t, lab, p, func(at func(time.Duration)) {
		at(4 * time.Second)
		cut = time.Now()
		lab.ClientLink(1, false)
		at(12 * time.Second)
		lab.ClientLink(1, true)
		back = time.Now()
	})
	judge(t, all, cut)
	var meanwhile, after []request
	for _, r := range all {
		switch {
		case r.at.After(cut.Add(100*time.Millisecond)) && r.at.Before(back.Add(-time.Second)):
			meanwhile = append(meanwhile, r)
		case r.at.After(back.Add(2 * time.Second)):
			after = append(after, r)
		}
	}
	if by := byLine(meanwhile); by[1] > 0 || len(meanwhile) == 0 {
		t.Errorf("while the link was down, the lines served %v", by)
	}
	if by := byLine(after); by[1] < len(after)*3/10 || by[1] > len(after)*2/5 {
		t.Errorf("after its return, the lines served %v of %d: not a third each", by, len(after))
	}
	t.Logf("shares while it was down %v, after its return %v", byLine(meanwhile), byLine(after))
}

// A line's ISP falls silent: no new connection fails, and once the line is suspect none waits for it.
func TestHealingSilence(t *testing.T) {
	lab, p := healed(t)
	var cut, back time.Time
	all := during(t, lab, p, func(at func(time.Duration)) {
		at(4 * time.Second)
		cut = time.Now()
		lab.Silence(1, true)
		at(12 * time.Second)
		lab.Silence(1, false)
		back = time.Now()
	})
	judge(t, all, cut)
	suspected := p.when(t, cut, "uplink is suspect", `"wan2"`)
	up := p.when(t, back, "uplink is up again", `"wan2"`)
	var before, first, meanwhile []time.Duration
	var after []request
	for _, r := range all {
		switch {
		case r.err != nil:
		case r.at.Before(cut.Add(-inFlight)):
			before = append(before, r.took)
		case r.at.Before(cut):
		case r.at.Before(suspected):
			first = append(first, r.took)
		case r.at.Before(back):
			meanwhile = append(meanwhile, r.took)
		case r.at.After(up.Add(time.Second)):
			after = append(after, r)
		}
	}
	slices.Sort(first)
	slices.Sort(meanwhile)
	t.Logf("suspect after %v; until then worst %v; while it was suspect p50 %v, p99 %v, worst %v; up again %v after the ISP was",
		suspected.Sub(cut).Round(time.Millisecond), percentile(first, 100), percentile(meanwhile, 50), percentile(meanwhile, 99),
		percentile(meanwhile, 100), up.Sub(back).Round(time.Millisecond))
	// A third of the requests would wait for the dead line until it is overtaken. On a busy machine some are slow anyway.
	if slow := slowShare(meanwhile); len(meanwhile) == 0 || slow > slowShare(before)+0.1 {
		t.Errorf("while the line was suspect, %.2f of %d requests were slow, before %.2f: they still wait for it", slow, len(meanwhile), slowShare(before))
	}
	if by := byLine(after); by[1] == 0 || by[1] < len(after)/3-len(after)/20-2 {
		t.Errorf("after its return the lines served %v of %d", by, len(after))
	}
}

// slowShare is the part of requests that took as long as an attempt that is overtaken.
func slowShare(took []time.Duration) float64 {
	slow := 0
	for _, d := range took {
		if d >= 250*time.Millisecond {
			slow++
		}
	}
	return float64(slow) / float64(max(len(took), 1))
}

// A line gets another address, without a word of warning.
func TestHealingReaddressed(t *testing.T) {
	lab, p := healed(t)
	var cut time.Time
	all := during(t, lab, p, func(at func(time.Duration)) {
		at(4 * time.Second)
		cut = time.Now()
		u := lab.Uplink(1)
		next := netip.PrefixFrom(u.IPv4.Addr().Next(), u.IPv4.Bits())
		lab.Readdress(1, next)
	})
	judge(t, all, cut)
	after := slices.DeleteFunc(slices.Clone(all), func(r request) bool { return r.at.Before(cut.Add(2 * time.Second)) })
	if by := byLine(after); by[1] < len(after)*3/10 {
		t.Errorf("after the change the lines served %v of %d", by, len(after))
	}
}

// A line loses its default route, and gets it back.
func TestHealingRouteRemoved(t *testing.T) {
	lab, p := healed(t)
	var cut time.Time
	all := during(t, lab, p, func(at func(time.Duration)) {
		at(4 * time.Second)
		cut = time.Now()
		lab.SetDefault4(1, false)
		at(12 * time.Second)
		lab.SetDefault4(1, true)
	})
	judge(t, all, cut)
	after := slices.DeleteFunc(slices.Clone(all), func(r request) bool { return r.at.Before(cut.Add(10 * time.Second)) })
	if by := byLine(after); by[1] < len(after)*3/10 {
		t.Errorf("after the route's return the lines served %v of %d", by, len(after))
	}
}

// Destinations that are dead are never held against the lines.
func TestDeadDestinationsDemoteNoLine(t *testing.T) {
	lab, p := healed(t)
	dead := netip.MustParseAddr("198.18.0.66") // silent; see world
	var wg sync.WaitGroup
	for n := range 60 {
		wg.Go(func() {
			host := dead.String()
			if n%2 == 0 {
				host = "198.18.0.9" // nobody's: unreachable
			}
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			defer cancel()
			if err := within(ctx, p, host); err == nil {
				t.Errorf("%s answered", host)
			}
		})
	}
	all := load(t.Context(), lab, p, 600)
	wg.Wait()
	judge(t, all)
	if by := byLine(all); slices.Min(by[:]) < 180 {
		t.Errorf("shares %v", by)
	}
	log, err := os.ReadFile(p.logFile)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(log, []byte("uplink is ")) {
		t.Error("a line was demoted")
	}
}

// within asks by SOCKS5 and gives up when ctx ends.
func within(ctx context.Context, p *process, host string) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", p.socks)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if err := ask5(c, host); err != nil {
		return err
	}
	_, err = netlab.ReadPeer(c)
	return err
}

// All lines are down, then one comes back: it is used within two seconds.
func TestHealingAllDownThenOneBack(t *testing.T) {
	for name, down := range map[string]func(lab *netlab.Lab, i int, down bool){
		"links":  func(lab *netlab.Lab, i int, down bool) { lab.ClientLink(i, !down) },
		"silent": func(lab *netlab.Lab, i int, down bool) { lab.Silence(i, down) },
	} {
		t.Run(name, func(t *testing.T) {
			lab, p := healed(t)
			judge(t, load(t.Context(), lab, p, 60))
			for i := range 3 {
				down(lab, i, true)
			}
			for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				if err := within(ctx, p, server4); err == nil {
					t.Error("a request was served without a line")
				}
				cancel()
			}
			down(lab, 2, false)
			back := time.Now()
			for {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				err := within(ctx, p, server4)
				cancel()
				if err == nil {
					break
				}
				if time.Since(back) > 10*time.Second {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Millisecond)
			}
			took := time.Since(back)
			t.Logf("first success %v after the return", took.Round(time.Millisecond))
			if took > 2*time.Second {
				t.Errorf("first success %v after the return of a line, want at most 2s", took)
			}
		})
	}
}

// Sessions on an address that vanishes are reset, so that their applications connect anew; those of other lines go on.
func TestSessionsOnAVanishedAddressAreReset(t *testing.T) {
	for name, before := range map[string]func(*netlab.Lab, netip.Prefix){
		"in use": func(*netlab.Lab, netip.Prefix) {},
		// By then it is no source of a line any more, which says nothing of the sessions.
		"link down first": func(lab *netlab.Lab, _ netip.Prefix) { lab.ClientLink(1, false) },
		"deprecated first": func(lab *netlab.Lab, address netip.Prefix) {
			lab.AddAddr(1, netlab.Addr{Prefix: address, Deprecated: true})
		},
	} {
		t.Run(name, func(t *testing.T) { vanish(t, before) })
	}
}

func vanish(t *testing.T, before func(*netlab.Lab, netip.Prefix)) {
	t.Helper()
	lab, p := healed(t)
	echo := lab.Listen(t, netip.AddrPortFrom(netip.MustParseAddr(server4), 9007))
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
	var conns [3][]net.Conn
	for range 9 {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.socks)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		request := []byte{5, 1, 0, 5, 1, 0, 1, 198, 18, 0, 1, 9007 >> 8, 9007 & 255}
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 12)); err != nil {
			t.Fatal(err)
		}
		peer, err := readLine(c)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if strings.HasPrefix(peer, lab.Uplink(i).IPv4.Addr().String()+":") {
				conns[i] = append(conns[i], c)
			}
		}
	}
	if len(conns[1]) != 3 {
		t.Fatalf("%d, %d and %d sessions on the lines", len(conns[0]), len(conns[1]), len(conns[2]))
	}
	before(lab, lab.Uplink(1).IPv4)
	time.Sleep(200 * time.Millisecond) // for the gateway to see that
	gone := time.Now()
	lab.DelAddr(1, lab.Uplink(1).IPv4.Addr())
	for _, c := range conns[1] {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
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

func readLine(c net.Conn) (string, error) {
	var line []byte
	for {
		var b [1]byte
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return "", err
		}
		if b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[0])
	}
}

// explain takes the states from a running gateway, which tells them to this machine only.
func TestExplainTakesTheStates(t *testing.T) {
	lab, p := healed(t)
	judge(t, load(t.Context(), lab, p, 12))
	lab.Silence(0, true)
	judge(t, load(t.Context(), lab, p, 60), time.Now().Add(time.Hour))
	p.when(t, time.Time{}, "uplink is suspect", `"wan1"`)
	var out, errs bytes.Buffer
	args := []string{"explain", "--gateway", p.http, server4 + ":443", "wan1", "wan2", "wan3"}
	if code := run(args, terminal{&out, &errs}); code != exitOK {
		t.Fatalf("exit code %d, %s", code, &errs)
	}
	for _, pattern := range []string{`1\. +wan2 +weight 1 +share 50.0 %`, `2\. +wan3`, `3\. +wan1 +weight 1 +if all else fails`, `wan1 +ipv4 +(suspect|down) since .*: `, `wan2 +ipv4 +up since`, `wan1 +ipv6 +up since`} {
		find(t, out.String(), "("+pattern+")")
	}
	// Without uplinks, the gateway's are taken; a port alone is this machine's.
	out.Reset()
	args = []string{"explain", "--gateway", strings.TrimPrefix(p.http, "127.0.0.1"), server4 + ":443"}
	if code := run(args, terminal{&out, &errs}); code != exitOK {
		t.Fatalf("exit code %d, %s", code, &errs)
	}
	for _, pattern := range []string{`3\. +wan1 +weight 1 +if all else fails`, `wan1 +ipv4 +(suspect|down) since`} {
		find(t, out.String(), "("+pattern+")")
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.http+"/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "site.test"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("under the name of a site: %s, %v", resp.Status, err)
	}
}

// The gateway's lines have its weights, also those that are gone now, and it is asked at each of its own addresses.
func TestExplainTakesTheGatewaysLines(t *testing.T) {
	lab := world(t, netlab.Config{})
	own := lab.Uplink(0).IPv4.Addr().String()
	p := start(t, "--http", own+":0", "wan1@5", lab.Uplink(1).IPv4.Addr().String()+"@3", "wan3@2")
	lab.DelAddr(1, lab.Uplink(1).IPv4.Addr())
	p.when(t, time.Time{}, "uplink is down", `"203.0.113.2"`)
	var out, errs bytes.Buffer
	for _, at := range []string{find(t, p.text(), `(127\.0\.0\.1:[0-9]+)`), find(t, p.text(), "("+regexp.QuoteMeta(own)+":[0-9]+)")} {
		out.Reset()
		if code := run([]string{"explain", "--gateway", at, server4 + ":443"}, terminal{&out, &errs}); code != exitOK {
			t.Fatalf("exit code %d, %s", code, &errs)
		}
		for _, pattern := range []string{`1\. +wan1 +weight 5 +share 71.4 %`, `2\. +wan3 +weight 2 +share 28.6 %`, `not by\n +203.0.113.2 +the machine does not have it now`, `203.0.113.2 +ipv4 +down since`} {
			find(t, out.String(), "("+pattern+")")
		}
	}
}

// explain names the lines that can carry a connection, in the order of the choice, and why the others cannot.
func TestExplain(t *testing.T) {
	lab := world(t, netlab.Config{})
	lab.ClientLink(2, false)
	for target, want := range map[string][]string{
		nameOfBoth + ":443": {
			`1\. +wan1 +weight 5 +share 62.5 % +\[2001:db8:5e::1\]:443 from 2001:db8:1::2, then 198.18.0.1:443 from 198.51.100.2`,
			`2\. +wan2 +weight 3 +share 37.5 %`, `not by\n +wan3 +the link is down`,
		},
		"203.0.113.9:80": {`1\. +wan2 +weight 3 +share 100.0 %`, `not by\n +wan1 +the destination is on another uplink's own network`},
		"127.0.0.1:80":   {`1\. +direct`},
	} {
		var out, errs bytes.Buffer
		args := []string{"explain", "--dns", dnsServer, target, "wan1@5", "wan2@3", "wan3@2"}
		if code := run(args, terminal{&out, &errs}); code != exitOK {
			t.Errorf("%s: exit code %d, %s", target, code, &errs)
		}
		for _, pattern := range want {
			find(t, out.String(), "("+pattern+")")
		}
	}
}

// With the strict reverse path filter and routes in the main table alone, only the line with the best metric works.
// --manage-routes makes all work while it runs, also on a new address, and leaves nothing behind; after a crash the next
// start clears away what was left.
func TestManageRoutes(t *testing.T) {
	strict := netlab.Uplink{RPFilter: 1}
	lab := world(t, netlab.Config{Uplinks: []netlab.Uplink{strict, strict, strict}})
	lab.ServerAddr(netip.MustParseAddr(otherServer4))
	lab.EchoPeer(t, netip.AddrPortFrom(netip.MustParseAddr(otherServer4), peerPort))
	lab.EchoPeerHTTP(t, netip.AddrPortFrom(netip.MustParseAddr(otherServer4), webPort))
	routing := func() string {
		t.Helper()
		var all []byte
		for _, args := range [][]string{{"rule"}, {"-6", "rule"}, {"route", "show", "table", "all"}, {"-6", "route", "show", "table", "all"}} {
			out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput()
			if err != nil {
				t.Fatalf("ip %v: %v, %s", args, err, out)
			}
			all = append(all, out...)
		}
		return string(all)
	}
	before := routing()
	begin := func() *process {
		return start(t, "--manage-routes", "--dns", dnsServer, "wan1", "wan2", "wan3")
	}
	p := begin()
	exactShares(t, lab, p, "SOCKS5", server4, [3]int{30, 30, 30}, clients["SOCKS5"])
	lab.Readdress(1, netip.PrefixFrom(lab.Uplink(1).IPv4.Addr().Next(), lab.Uplink(1).IPv4.Bits()))
	time.Sleep(time.Second) // the kernel tells of it within milliseconds
	judge(t, load(t.Context(), lab, p, 60))
	exactShares(t, lab, p, "SOCKS5", server4, [3]int{30, 30, 30}, clients["SOCKS5"])

	// Another router, put in the place of the first one.
	table := func() string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "ip", "route", "show", "table", "all", "proto", "209", "dev", "wan3").CombinedOutput()
		if err != nil {
			t.Fatalf("%v, %s", err, out)
		}
		return string(out)
	}
	former := lab.Uplink(2).Gateway4
	other := former.Next().Next()
	for _, via := range []netip.Addr{other, former} {
		replace := []string{"route", "replace", "default", "via", via.String(), "dev", "wan3", "metric", "300"}
		if out, err := exec.CommandContext(t.Context(), "ip", replace...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v, %s", replace, err, out)
		}
		for end := time.Now().Add(5 * time.Second); !strings.Contains(table(), "via "+via.String()+" "); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the router is %s now, and the line's own table has %s", via, table())
			}
		}
	}

	// A crash leaves them behind.
	p.signal(t, syscall.SIGKILL)
	p.wait(t)
	if routing() == before {
		t.Error("nothing was installed")
	}
	lab.Readdress(1, netip.PrefixFrom(lab.Uplink(1).IPv4.Addr().Prev(), lab.Uplink(1).IPv4.Bits()))
	p = begin()
	exactShares(t, lab, p, "SOCKS5", server4, [3]int{30, 30, 30}, clients["SOCKS5"])
	p.signal(t, syscall.SIGINT)
	if code := p.wait(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if after := routing(); after != before {
		t.Errorf("before:\n%s\nafterwards:\n%s", before, after)
	}

	// A start that manages none clears them away as well.
	p = begin()
	p.signal(t, syscall.SIGKILL)
	p.wait(t)
	start(t, "wan1").logged(t, 1, "policy routes that an earlier run had left behind were removed")
	if after := routing(); after != before {
		t.Errorf("before:\n%s\nafter a start that does not manage them:\n%s", before, after)
	}
}
