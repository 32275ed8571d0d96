package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
)

// errOtherFamily: the echo URL's host has no address of the family.
var errOtherFamily = errors.New("the host has no address of this family")

// answerLimit is more than any page has that tells an address and nothing else.
const answerLimit = 64 << 10

// fetchPeer fetches the echo URL through the line, in one family, over a connection of its own and past every proxy.
func (e *examination) fetchPeer(ctx context.Context, l *line, f machine.Family) (*Passage, error) {
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	p := &Passage{Target: e.EchoURL, Sent: -1}
	transport := &http.Transport{
		DisableKeepAlives: true,
		// With the fetch's own context: the one that is given outlives the request (net/http lets an unused dial end).
		DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
			return dialFamily(ctx, l, f, address, p)
		},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.EchoURL, http.NoBody)
	if err != nil {
		return p, err
	}
	before, counted := packetsSent(l.link)
	// Whoever is redirected to was not named by the user, and is most often a login page.
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		return p, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, answerLimit))
	err = errors.Join(err, response.Body.Close())
	if after, ok := packetsSent(l.link); ok && counted {
		p.Sent = after - before
	}
	if err != nil {
		return p, err
	}
	if to := response.Header.Get("Location"); to != "" {
		return p, fmt.Errorf("the answer was %q to %q; if that is a login page, log in first", response.Status, to)
	}
	if response.StatusCode != http.StatusOK {
		return p, fmt.Errorf("the answer was %q", response.Status)
	}
	if peer := findAddr(string(body)); peer.IsValid() {
		p.Peer = peer.String()
	}
	return p, nil
}

func dialFamily(ctx context.Context, l *line, f machine.Family, address string, p *Passage) (net.Conn, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return nil, err
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if a = a.Unmap(); machine.FamilyOf(a) != f {
			continue
		}
		conn, err := l.way.DialStream(ctx, uplink.To(netip.AddrPortFrom(a, uint16(port))))
		if err != nil {
			return nil, err
		}
		p.Destination, p.Source, p.BoundTo = conn.RemoteAddr().String(), conn.LocalAddr().String(), bindingOf(conn)
		return conn, nil
	}
	return nil, errOtherFamily
}

// findAddr returns the first IP address in a text, be it bare, with a port, or a value in JSON or HTML.
func findAddr(text string) netip.Addr {
	words := strings.FieldsFunc(text, func(r rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF.:[]", r) })
	for _, w := range words {
		if ap, err := netip.ParseAddrPort(w); err == nil {
			return ap.Addr().Unmap()
		}
		w = strings.Trim(w, "[].")
		for _, candidate := range []string{w, strings.TrimPrefix(w, ":"), strings.TrimSuffix(w, ":")} {
			if a, err := netip.ParseAddr(candidate); err == nil && len(candidate) > 2 {
				return a.Unmap()
			}
		}
	}
	return netip.Addr{}
}

// bindingOf is the interface that a line's connection is bound to, as the kernel says; empty where it does not.
func bindingOf(conn net.Conn) string {
	if tcp, ok := conn.(*net.TCPConn); ok {
		return boundTo(tcp)
	}
	return ""
}
