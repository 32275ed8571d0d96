package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"dispatch/testdata/netlab"
)

// The lab's servers, and their names in its DNS.
const (
	dnsServer  = "198.18.0.53"
	server4    = "198.18.0.1"
	server6    = "2001:db8:5e::1"
	peerPort   = 7
	webPort    = 80
	nameOfFour = "four.test"
	nameOfSix  = "six.test"
	nameOfBoth = "both.test"
	nameOfDead = "dead.test" // its first address is silent
)

// world is a lab with servers that report their peer's address, and a name server.
func world(t *testing.T, config netlab.Config) *netlab.Lab {
	t.Helper()
	lab := netlab.New(t, config)
	for _, a := range []string{server4, server6} {
		lab.EchoPeer(t, netip.AddrPortFrom(netip.MustParseAddr(a), peerPort))
		lab.EchoPeerHTTP(t, netip.AddrPortFrom(netip.MustParseAddr(a), webPort))
	}
	zone := map[string][]string{
		nameOfFour + ".": {server4},
		nameOfSix + ".":  {server6},
		nameOfBoth + ".": {server4, server6},
		nameOfDead + ".": {"198.18.0.66", server4},
	}
	lab.Internet.Block(netip.MustParseAddr("198.18.0.66"), netlab.Drop)
	at := lab.ListenPacket(t, netip.AddrPortFrom(netip.MustParseAddr(dnsServer), 53))
	server := &dns.Server{PacketConn: at, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		for _, a := range zone[strings.ToLower(q.Question[0].Name)] {
			header := dns.RR_Header{Name: q.Question[0].Name, Class: dns.ClassINET, Ttl: 60}
			ip := net.ParseIP(a)
			switch {
			case ip.To4() != nil && q.Question[0].Qtype == dns.TypeA:
				header.Rrtype = dns.TypeA
				m.Answer = append(m.Answer, &dns.A{Hdr: header, A: ip})
			case ip.To4() == nil && q.Question[0].Qtype == dns.TypeAAAA:
				header.Rrtype = dns.TypeAAAA
				m.Answer = append(m.Answer, &dns.AAAA{Hdr: header, AAAA: ip})
			}
		}
		if err := w.WriteMsg(m); err != nil {
			t.Error(err)
		}
	})}
	done := make(chan error, 1)
	go func() { done <- server.ActivateAndServe() }()
	t.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return lab
}

// client asks for the peer's address through one protocol.
type client func(ctx context.Context, p *process, host string) (netip.Addr, error)

var clients = map[string]client{
	"SOCKS5":     tunnelled(func(p *process) string { return p.socks }, ask5),
	"SOCKS4a":    tunnelled(func(p *process) string { return p.socks }, ask4a),
	"CONNECT":    tunnelled(func(p *process) string { return p.http }, askConnect),
	"plain HTTP": askPlain,
	// Any port understands both.
	"SOCKS5 on the HTTP port":   tunnelled(func(p *process) string { return p.http }, ask5),
	"CONNECT on the SOCKS port": tunnelled(func(p *process) string { return p.socks }, askConnect),
}

func tunnelled(proxy func(*process) string, ask func(net.Conn, string) error) client {
	return func(ctx context.Context, p *process, host string) (netip.Addr, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", proxy(p))
		if err != nil {
			return netip.Addr{}, err
		}
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			return netip.Addr{}, err
		}
		err = ask(c, host)
		if err != nil {
			return netip.Addr{}, errors.Join(err, c.Close())
		}
		peer, err := netlab.ReadPeer(c)
		return peer.Addr(), errors.Join(err, c.Close())
	}
}

func ask5(c net.Conn, host string) error {
	request := append([]byte{5, 1, 0, 5, 1, 0, 3, byte(len(host))}, host...)
	if _, err := c.Write(append(request, 0, peerPort)); err != nil {
		return err
	}
	var head [2 + 4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	if head[3] != 0 {
		return fmt.Errorf("reply code %d", head[3])
	}
	rest := 4 + 2
	if head[5] == 4 {
		rest = 16 + 2
	}
	_, err := io.ReadFull(c, make([]byte, rest))
	return err
}

func ask4a(c net.Conn, host string) error {
	request := append([]byte{4, 1, 0, peerPort, 0, 0, 0, 1, 'u', 0}, host...)
	if _, err := c.Write(append(request, 0)); err != nil {
		return err
	}
	var reply [8]byte
	if _, err := io.ReadFull(c, reply[:]); err != nil {
		return err
	}
	if reply[1] != 90 {
		return fmt.Errorf("reply code %d", reply[1])
	}
	return nil
}

func askConnect(c net.Conn, host string) error {
	if _, err := fmt.Fprintf(c, "CONNECT %s:%d HTTP/1.1\r\nHost: %[1]s\r\n\r\n", host, peerPort); err != nil {
		return err
	}
	for head := ""; ; {
		var b [1]byte // not a byte of the tunnel
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return err
		}
		if head += string(b[:]); strings.HasSuffix(head, "\r\n\r\n") {
			if !strings.Contains(head, " 200 ") {
				return errors.New(head)
			}
			return nil
		}
	}
}

var plainMu sync.Mutex

func askPlain(ctx context.Context, p *process, host string) (netip.Addr, error) {
	plainMu.Lock()
	c := plain[p.http]
	if c == nil {
		c = &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: p.http})}}
		plain[p.http] = c
	}
	plainMu.Unlock()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/", nil)
	if err != nil {
		return netip.Addr{}, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return netip.Addr{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return netip.Addr{}, errors.Join(errors.New(resp.Status), resp.Body.Close())
	}
	peer, err := netlab.ReadPeer(resp.Body)
	return peer.Addr(), errors.Join(err, resp.Body.Close())
}

// With weights 5:3:2, 1,000 connections are shared exactly 500:300:200, whichever protocol asks; with the strict
// reverse path filter of some systems and the loose one of others.
func TestSharesOverProtocols(t *testing.T) {
	for name, line := range map[string]netlab.Uplink{
		"loose filter, metric routes":  {RPFilter: 2},
		"strict filter, policy routes": {RPFilter: 1, PolicyRoutes: true},
	} {
		t.Run(name, func(t *testing.T) {
			lab := world(t, netlab.Config{Uplinks: []netlab.Uplink{line, line, line}})
			p := start(t, "--dns", dnsServer, "wan1@5", "wan2@3", "wan3@2")
			for protocol, ask := range clients {
				begin := time.Now()
				exactShares(t, lab, p, protocol, nameOfFour, [3]int{500, 300, 200}, ask)
				t.Logf("%s: 1000 connections shared 500:300:200 in %s", protocol, time.Since(begin).Round(time.Millisecond))
			}
		})
	}
}

// exactShares asks as often as the wanted shares sum up to and fails unless each line served exactly its share. Where
// the machine stalled so long that an attempt was overtaken, by design another line served that request: then the
// run says nothing about the choice, and is repeated.
func exactShares(t *testing.T, lab *netlab.Lab, p *process, protocol, host string, want [3]int, ask client) {
	t.Helper()
	n := want[0] + want[1] + want[2]
	for try := 1; ; try++ {
		before, overtakenBefore := p.closed(t)
		got := shares(t, lab, p, ask, host, n)
		if got == want || t.Failed() {
			return
		}
		sessions, overtaken := p.closed(t)
		for end := time.Now().Add(10 * time.Second); sessions < before+n && time.Now().Before(end); sessions, overtaken = p.closed(t) {
			time.Sleep(5 * time.Millisecond)
		}
		if overtaken == overtakenBefore || try == 5 {
			t.Errorf("%s to %s: shares %v, want %v, with %d sessions overtaken", protocol, host, got, want, overtaken-overtakenBefore)
			return
		}
		t.Logf("%s to %s: shares %v, with %d sessions overtaken by stalls of this machine; again", protocol, host, got, overtaken-overtakenBefore)
	}
}

// closed counts the records of sessions, and those that took more than one attempt.
func (p *process) closed(t *testing.T) (sessions, overtaken int) {
	t.Helper()
	log, err := os.ReadFile(p.logFile)
	if err != nil {
		t.Fatal(err)
	}
	sessions = strings.Count(string(log), "session closed")
	return sessions, sessions - strings.Count(string(log), `"attempts":1,`) - strings.Count(string(log), `"attempts":0,`)
}

// shares asks n times, some at once, and counts by line.
func shares(t *testing.T, lab *netlab.Lab, p *process, ask client, host string, n int) [3]int {
	t.Helper()
	var mu sync.Mutex
	var count [3]int
	var wg sync.WaitGroup
	todo := make(chan struct{}, n)
	for range n {
		todo <- struct{}{}
	}
	close(todo)
	for range 8 {
		wg.Go(func() {
			for range todo {
				peer, err := ask(t.Context(), p, host)
				if err != nil {
					t.Errorf("%s: %v", host, err)
					return
				}
				mu.Lock()
				for line := range count {
					if u := lab.Uplink(line); peer == u.IPv4.Addr() || peer == u.IPv6.Addr() {
						count[line]++
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return count
}

func TestNamesOfEachKind(t *testing.T) {
	lab := world(t, netlab.Config{Uplinks: []netlab.Uplink{{NoIPv6: true}, {NoIPv4: true}, {}}})
	p := start(t, "--dns", dnsServer, "wan1@5", "wan2@3", "wan3@2")
	for protocol, ask := range clients {
		for host, want := range map[string][3]int{
			nameOfFour: {50, 0, 20}, nameOfSix: {0, 42, 28}, nameOfBoth: {35, 21, 14},
		} {
			exactShares(t, lab, p, protocol, host, want, ask)
		}
		// Its first address is silent: a line's attempt there is overtaken by another line's at the living one.
		if got := shares(t, lab, p, ask, nameOfDead, 14); got[0]+got[2] != 14 {
			t.Errorf("%s to %s: %v of 14 were served", protocol, nameOfDead, got)
		}
		// That is remembered: then every line serves its own share.
		exactShares(t, lab, p, protocol, nameOfDead, [3]int{50, 0, 20}, ask)
	}
}

// One line has no default route: its turns are served by the others, whatever the protocol.
func TestLineWithoutRoute(t *testing.T) {
	lab := world(t, netlab.Config{Uplinks: []netlab.Uplink{{}, {NoDefault4: true, NoDefault6: true}, {}}})
	p := start(t, "wan1", "wan2", "wan3")
	for protocol, ask := range clients {
		got := shares(t, lab, p, ask, server4, 6)
		if got[0]+got[2] != 6 {
			t.Errorf("%s: shares %v", protocol, got)
		}
	}
	find(t, p.text(), "(warning: wan2: ipv4: .*no default route.*; 'dispatch doctor wan2' tells more)")
	p.logged(t, 1, "line will not work", `"uplink":"wan2"`, `"family":"ipv4"`, `"check":"default_route"`)
	p.when(t, time.Time{}, "uplink is suspect", `"uplink":"wan2"`, `"family":"ipv4"`)
}

func TestStartTellsWhatItDoes(t *testing.T) {
	netlab.New(t, netlab.Config{})
	p := start(t, "wan1@5", "wan2@3", "203.0.113.2@2")
	for _, want := range []string{
		"SOCKS4, SOCKS4a, SOCKS5 and HTTP", `socks +127\.0\.0\.1:\d+`, `http +127\.0\.0\.1:\d+ +.*/proxy.pac`,
		`wan1 +weight 5 +50\.0 % +198\.51\.100\.2 2001:db8:1::2`, `wan2 +weight 3 +30\.0 % `,
		`203\.0\.113\.2 +weight 2 +20\.0 % `, `log: .*dispatch\.log`, "one connection uses one line",
	} {
		find(t, p.text(), "("+want+")")
	}
	info, err := os.Stat(p.logFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the log file: %v, %v", info, err)
	}
}

func TestStartWithoutArgumentsTakesTheLinesWithARoute(t *testing.T) {
	world(t, netlab.Config{Uplinks: []netlab.Uplink{{}, {NoDefault4: true, NoDefault6: true}, {NoDefault6: true}}})
	// Unlike wan2, which is a veth as containers have them, this looks like a card.
	for _, command := range []string{"link add lan1 link wan1 type macvlan mode bridge", "link set lan1 up", "addr add 192.0.2.2/24 dev lan1"} {
		if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v, %s", command, err, out)
		}
	}
	p := start(t)
	p.logged(t, 1, "interface is not used", `"interface":"lan1"`)
	p.signal(t, os.Interrupt)
	<-p.ended
	find(t, p.text(), `(wan1 +weight 1 +50\.0 %)`)
	find(t, p.text(), `(wan3 +weight 1 +50\.0 %)`)
	find(t, p.text(), "(not used: lan1: no default route; 'dispatch doctor lan1' tells more)")
	if strings.Contains(p.text(), "wan2") {
		t.Errorf("wan2 has no default route:\n%s", p.text())
	}
}

// The command lines of this program's ancestors.
func TestAncestorsForms(t *testing.T) {
	extra := func(a string) netlab.Uplink {
		return netlab.Uplink{Extra: []netlab.Addr{{Prefix: netip.MustParsePrefix(a)}}}
	}
	for _, form := range []struct {
		first, second string
		args          []string
		want          []string
	}{
		{"10.0.0.0/32", "10.0.0.1/32", []string{"start", "10.0.0.0/7", "10.0.0.1/3"}, []string{
			`socks +127\.0\.0\.1:1080`, `http +127\.0\.0\.1:8080`, `10\.0\.0\.0 +weight 7 +70\.0 %`, `10\.0\.0\.1 +weight 3 +30\.0 %`,
		}},
		{"192.168.110.101/32", "192.168.110.102/32", []string{"start", "--ip", "127.0.0.1", "--port", "10806", "192.168.110.101@7", "192.168.110.102@3"}, []string{
			`socks +127\.0\.0\.1:10806`, `192\.168\.110\.101 +weight 7 +70\.0 %`, `192\.168\.110\.102 +weight 3 +30\.0 %`,
		}},
		{"10.0.0.0/32", "10.0.0.1/32", []string{"-d", "start", "--socks", ":1080", "--http", ":8080", "10.0.0.0", "10.0.0.1"}, []string{
			`log: standard output`, `10\.0\.0\.0 +weight 1 +50\.0 %`,
		}},
	} {
		t.Run(strings.Join(form.args, " "), func(t *testing.T) {
			netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{extra(form.first), extra(form.second)}})
			p := launch(t, form.args...)
			for _, want := range form.want {
				find(t, p.text(), "("+want+")")
			}
			p.signal(t, os.Interrupt)
			if code := p.wait(t); code != exitOK {
				t.Errorf("ended with %d:\n%s", code, p.text())
			}
		})
	}
}

func TestStartNeedsItsPort(t *testing.T) {
	netlab.New(t, netlab.Config{})
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Args = []string{"dispatch", "start", "--socks", ":0", "--http", l.Addr().String(), "--log-file", "-", "wan1"}
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != exitFailure {
		t.Errorf("ended with %v", err)
	}
	if !strings.Contains(string(out), "address already in use; choose another address with --http") || strings.Contains(string(out), "listening") {
		t.Errorf("output:\n%s", out)
	}
}

func TestSnapshotOnSignal(t *testing.T) {
	world(t, netlab.Config{})
	p := start(t, "wan1@5", "wan2@3")
	for range 8 {
		if _, err := clients["SOCKS5"](t.Context(), p, server4); err != nil {
			t.Fatal(err)
		}
	}
	p.logged(t, 8, "session closed", `"class":""`, `"attempts":1`)
	p.signal(t, syscall.SIGUSR1)
	p.logged(t, 1, `"msg":"snapshot of an uplink","uplink":"wan1","account":{"live":0,"total":5,"failed":0,"up":0,"down":`)
	p.logged(t, 1, `"msg":"snapshot of an uplink","uplink":"wan2","account":{"live":0,"total":3,`)
	p.logged(t, 1, `"msg":"snapshot of a listener","listener":"socks `+p.socks)
}

// hang opens a tunnel through the gateway to a server that holds it.
func hang(t *testing.T, lab *netlab.Lab, p *process) (near, far net.Conn) {
	t.Helper()
	l := lab.Listen(t, netip.AddrPortFrom(netip.MustParseAddr("198.18.0.2"), peerPort))
	near, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.socks)
	if err != nil {
		t.Fatal(err)
	}
	if err := ask5(near, "198.18.0.2"); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range []net.Conn{near, far} {
			if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
	})
	for _, c := range []net.Conn{near, far} {
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	return near, far
}

func TestInterruptLetsSessionsFinish(t *testing.T) {
	lab := world(t, netlab.Config{})
	p := start(t, "--grace", "20s", "wan1")
	near, far := hang(t, lab, p)
	p.signal(t, os.Interrupt)
	for { // it stops accepting
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.socks)
		if err != nil {
			break
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := far.Write([]byte("the rest")); err != nil {
		t.Fatal(err)
	}
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(near); err != nil || string(all) != "the rest" {
		t.Errorf("the session got %q, %v", all, err)
	}
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	p.logged(t, 1, `"msg":"stopped","sessions_cut":0`)
	find(t, p.text(), `(stopping: sessions have 20s to finish \(1 now\))`)
}

func TestSecondInterruptEndsNow(t *testing.T) {
	lab := world(t, netlab.Config{})
	p := start(t, "--grace", "1h", "wan1")
	near, far := hang(t, lab, p)
	p.signal(t, os.Interrupt)
	p.logged(t, 0, "stopped")
	for !strings.Contains(p.text(), "stopping") {
		time.Sleep(time.Millisecond)
	}
	p.signal(t, os.Interrupt)
	if code := p.wait(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	for end, c := range map[string]net.Conn{"client": near, "server": far} {
		if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the %s saw %v, want a reset: it must not take a cut session for a whole one", end, err)
		}
	}
	p.logged(t, 1, `"msg":"stopped","sessions_cut":1`)
	p.logged(t, 1, "session closed", `"class":"closed"`)
}

func TestGraceEnds(t *testing.T) {
	lab := world(t, netlab.Config{})
	p := start(t, "--grace", "300ms", "wan1")
	hang(t, lab, p)
	begin := time.Now()
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(begin); took < 300*time.Millisecond || took > 5*time.Second {
		t.Errorf("ended after %s", took)
	}
}

// when returns the time of the first record since then with all of the texts, and waits for it.
func (p *process) when(t *testing.T, since time.Time, texts ...string) time.Time {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		log, err := os.ReadFile(p.logFile)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(log)) {
			if slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
				continue
			}
			var record struct{ Time time.Time }
			if err := json.Unmarshal([]byte(line), &record); err != nil {
				t.Fatal(err)
			}
			if record.Time.Before(since) {
				continue
			}
			return record.Time
		}
		if time.Now().After(end) {
			t.Fatalf("the log has no record with %q", texts)
		}
	}
}
