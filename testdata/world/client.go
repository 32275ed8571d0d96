package world

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"dispatch/testdata/netlab"
)

// askWithin bounds what a client waits for, if its context does not.
const askWithin = 20 * time.Second

// Protocol is one way to ask through a gateway.
type Protocol string

// The protocols, by the port that is meant for them; each port understands all.
const (
	SOCKS5        Protocol = "SOCKS5"
	SOCKS4a       Protocol = "SOCKS4a"
	CONNECT       Protocol = "CONNECT"
	Plain         Protocol = "plain HTTP"
	SOCKS5OnHTTP  Protocol = "SOCKS5 on the HTTP port"
	CONNECTOnSOCK Protocol = "CONNECT on the SOCKS port"
)

// Protocols are all of them.
var Protocols = []Protocol{SOCKS5, SOCKS4a, CONNECT, Plain, SOCKS5OnHTTP, CONNECTOnSOCK}

// Client asks the world's servers through a gateway. Safe for concurrent use.
type Client struct {
	socks, http string
	plain       *http.Client // keeps its connections to the gateway
}

// NewClient makes a Client of the gateway that listens at two addresses. It is of use until t ends.
func NewClient(t testing.TB, socks, httpAt string) *Client {
	transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: httpAt})}
	t.Cleanup(transport.CloseIdleConnections)
	return &Client{socks: socks, http: httpAt, plain: &http.Client{Transport: transport}}
}

// Ask asks host for the address that it sees as its client's.
func (c *Client) Ask(ctx context.Context, by Protocol, host string) (netip.Addr, error) {
	at, ask := c.socks, Ask5
	switch by {
	case Plain:
		return c.askPlain(ctx, host)
	case SOCKS4a:
		ask = ask4a
	case CONNECT:
		at, ask = c.http, askConnect
	case SOCKS5OnHTTP:
		at = c.http
	case CONNECTOnSOCK:
		ask = askConnect
	}
	return tunnelled(ctx, at, ask, host)
}

func tunnelled(ctx context.Context, at string, ask func(net.Conn, string) error, host string) (peer netip.Addr, err error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", at)
	if err != nil {
		return netip.Addr{}, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.SetDeadline(time.Now().Add(askWithin)); err != nil {
		return netip.Addr{}, err
	}
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })() // fails where it is closed
	if err := ask(c, host); err != nil {
		return netip.Addr{}, err
	}
	seen, err := netlab.ReadPeer(c)
	return seen.Addr(), err
}

// Ask5 has a gateway connect to a host's PeerPort, by SOCKS5.
func Ask5(c net.Conn, host string) error {
	request := append([]byte{5, 1, 0, 5, 1, 0, 3, byte(len(host))}, host...)
	if _, err := c.Write(append(request, 0, PeerPort)); err != nil {
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
	request := append([]byte{4, 1, 0, PeerPort, 0, 0, 0, 1, 'u', 0}, host...)
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
	if _, err := fmt.Fprintf(c, "CONNECT %s:%d HTTP/1.1\r\nHost: %[1]s\r\n\r\n", host, PeerPort); err != nil {
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

func (c *Client) askPlain(ctx context.Context, host string) (netip.Addr, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/", nil)
	if err != nil {
		return netip.Addr{}, err
	}
	resp, err := c.plain.Do(req)
	if err != nil {
		return netip.Addr{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return netip.Addr{}, errors.Join(errors.New(resp.Status), resp.Body.Close())
	}
	peer, err := netlab.ReadPeer(resp.Body)
	return peer.Addr(), errors.Join(err, resp.Body.Close())
}

// Shares asks n times, eight at once, and counts the answers by line, of the three that begin with line first.
func (c *Client) Shares(t testing.TB, lab *netlab.Lab, first int, by Protocol, host string, n int) [3]int {
	t.Helper()
	var mu sync.Mutex
	var count [3]int
	todo := make(chan struct{}, n)
	for range n {
		todo <- struct{}{}
	}
	close(todo)
	var askers sync.WaitGroup
	for range 8 {
		askers.Go(func() {
			for range todo {
				peer, err := c.Ask(t.Context(), by, host)
				if err != nil {
					t.Errorf("%s: %v", host, err)
					return
				}
				if line := LineOf(lab, first, peer); line >= 0 {
					mu.Lock()
					count[line]++
					mu.Unlock()
				}
			}
		})
	}
	askers.Wait()
	return count
}

// LineOf tells which of the three lines that begin with line first an address is of, counted from 0; -1 for none.
func LineOf(lab *netlab.Lab, first int, peer netip.Addr) int {
	for line := range 3 {
		if u := lab.Uplink(first + line); peer.IsValid() && (peer == u.IPv4.Addr() || peer == u.IPv6.Addr()) {
			return line
		}
	}
	return -1
}

// ExactShares asks as often as the wanted shares sum up to, and fails t unless each of the three lines that begin with line
// first served exactly its share. Where the machine stalled so long that an attempt was overtaken, by design another line
// served that request: then the run says nothing about the choice, and is repeated. Log returns the gateway's, as JSON.
func (c *Client) ExactShares(t testing.TB, lab *netlab.Lab, first int, by Protocol, host string, want [3]int, log func() string) {
	t.Helper()
	n := want[0] + want[1] + want[2]
	for try := 1; ; try++ {
		before, overtakenBefore := closed(log())
		got := c.Shares(t, lab, first, by, host, n)
		if got == want || t.Failed() {
			return
		}
		sessions, overtaken := closed(log())
		for end := time.Now().Add(askWithin); sessions < before+n && time.Now().Before(end); sessions, overtaken = closed(log()) {
			time.Sleep(5 * time.Millisecond)
		}
		if overtaken == overtakenBefore || try == 5 {
			t.Errorf("%s to %s: shares %v, want %v, with %d sessions overtaken", by, host, got, want, overtaken-overtakenBefore)
			return
		}
		t.Logf("%s to %s: shares %v, with %d sessions overtaken by stalls of this machine; again", by, host, got, overtaken-overtakenBefore)
	}
}

// closed counts the records of sessions, and those that took more than one attempt.
func closed(log string) (sessions, overtaken int) {
	sessions = strings.Count(log, "session closed")
	return sessions, sessions - strings.Count(log, `"attempts":1,`) - strings.Count(log, `"attempts":0,`)
}
