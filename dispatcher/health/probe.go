package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"

	"dispatch/dispatcher/uplink"
)

// Probe is a target of the user's own, to find out whether an uplink works.
type Probe struct {
	text   string
	url    *url.URL
	port   uint16
	status int // expected of http; 0: any that is not an error or a redirect
}

// Resolve turns a host name into addresses.
type Resolve func(ctx context.Context, host string) ([]netip.Addr, error)

// ParseProbe reads tcp://HOST:PORT, which is to connect, or http://HOST[:PORT]/PATH, which is to be answered with
// success. HTTP's success is a status of 200 to 299, or the one that follows the address as #STATUS.
func ParseProbe(text string) (Probe, error) {
	p := Probe{text: text, port: 80}
	var err error
	if p.url, err = url.Parse(text); err != nil {
		return Probe{}, fmt.Errorf("probe %q is no address: %w; write tcp://HOST:PORT or http://HOST/PATH", text, err)
	}
	u := p.url
	if u.Hostname() == "" || u.User != nil || u.Scheme != "tcp" && u.Scheme != "http" {
		return Probe{}, fmt.Errorf("probe %q is neither tcp://HOST:PORT nor http://HOST/PATH; write one of those", text)
	}
	if u.Scheme == "tcp" && (u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.Port() == "") {
		return Probe{}, fmt.Errorf("probe %q names no port, or more than a host and a port; write tcp://HOST:PORT", text)
	}
	if u.Port() != "" {
		port, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil || port == 0 {
			return Probe{}, fmt.Errorf("probe %q: %s is no port; write a number from 1 to 65535", text, u.Port())
		}
		p.port = uint16(port)
	}
	if u.Fragment != "" {
		if p.status, err = strconv.Atoi(u.Fragment); err != nil || p.status < 100 || p.status > 599 {
			return Probe{}, fmt.Errorf("probe %q: %q is no HTTP status; write one such as #204", text, u.Fragment)
		}
		u.Fragment = ""
	}
	return p, nil
}

// String returns the probe as it was written.
func (p Probe) String() string { return p.text }

// seesLogin tells whether the probe can tell the target from a login page in its place.
func (p Probe) seesLogin() bool { return p.url.Scheme == "http" }

// inOrder puts those first that tell more.
func inOrder(probes []Probe) []Probe {
	ordered := slices.Clone(probes)
	slices.SortStableFunc(ordered, func(a, b Probe) int {
		switch {
		case a.seesLogin() == b.seesLogin():
			return 0
		case a.seesLogin():
			return -1
		}
		return 1
	})
	return ordered
}

// through tries the probe by one uplink, in one family; nil means that it works.
func (p Probe) through(ctx context.Context, u *uplink.Uplink, family uplink.Family, resolve Resolve) error {
	host := p.url.Hostname()
	var addrs []netip.Addr
	if literal, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, literal)
	} else if addrs, err = resolve(ctx, host); err != nil {
		return fmt.Errorf("probe %s: %w: %w", p, errUncheckable, err)
	}
	for _, a := range addrs {
		if uplink.FamilyOf(a.Unmap()) != family {
			continue
		}
		to := netip.AddrPortFrom(a.Unmap(), p.port)
		if p.url.Scheme == "tcp" {
			return connects(ctx, u, to)
		}
		return p.fetch(ctx, u, to)
	}
	return fmt.Errorf("probe %s: %w: it has no %s address", p, errUncheckable, family)
}

// errLogin is for a network that answers in the target's place.
var errLogin = errors.New("login needed: the network answers in the probe's place")

func (p Probe) fetch(ctx context.Context, u *uplink.Uplink, to netip.AddrPort) error {
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return u.DialStream(ctx, uplink.To(to))
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url.String(), nil)
	if err != nil {
		return fmt.Errorf("probe %s: %w", p, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("probe %s: %w", p, err)
	}
	if err := resp.Body.Close(); err != nil {
		return fmt.Errorf("probe %s: %w", p, err)
	}
	switch status := resp.StatusCode; {
	case status == p.status, p.status == 0 && status >= 200 && status < 300:
		return nil
	case status >= 300 && status < 400, p.status != 0 && status >= 200 && status < 300, status == http.StatusNetworkAuthenticationRequired:
		return fmt.Errorf("%w (%s: status %d)", errLogin, p, status)
	default:
		return fmt.Errorf("probe %s: status %d", p, status)
	}
}
