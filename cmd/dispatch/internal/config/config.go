// Package config makes one checked configuration of what the user wrote. Its errors name the flag that is wrong, and say
// what to write instead.
package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"dispatch/dispatcher/health"
	"dispatch/dispatcher/uplink"
	"dispatch/resolver"
)

// Config is everything about a gateway that its user decides.
type Config struct {
	// Uplinks are the lines to use; empty: the automatic choice.
	Uplinks []uplink.Spec
	// SOCKS and HTTP are where to listen, of each kind. At least one address is there, and none twice, but for port 0.
	SOCKS, HTTP []netip.AddrPort
	// DNS are the servers to ask for names; empty: the system's resolver is asked.
	DNS []netip.AddrPort
	// Probes are the targets that lines are checked with; empty: destinations that lately worked.
	Probes []health.Probe
	// ManageRoutes has a policy route for every line while the gateway runs.
	ManageRoutes bool
	// Grace is how long sessions may go on when the gateway is to end; 0: not at all.
	Grace time.Duration
	// HandshakeTimeout is how long a client may take to say what it wants; more than 0.
	HandshakeTimeout time.Duration
}

// Flags is what the flags and arguments of the command line say, as they were written. A nil slice or pointer is a flag
// that was not given.
type Flags struct {
	Uplinks          []string
	SOCKS, HTTP      []string
	IP               string
	Port             *uint16
	DNS              string
	Probe            []string
	ManageRoutes     bool
	Grace            time.Duration
	HandshakeTimeout time.Duration
}

// The ports that are listened on where none is named.
const (
	defaultSOCKS = ":1080"
	defaultHTTP  = ":8080"
)

// Config checks everything that can be checked before anything is started.
func (f Flags) Config() (Config, error) {
	c := Config{ManageRoutes: f.ManageRoutes, Grace: f.Grace, HandshakeTimeout: f.HandshakeTimeout}
	var err error
	if c.SOCKS, c.HTTP, err = f.listeners(); err != nil {
		return Config{}, err
	}
	switch {
	case f.Grace < 0:
		return Config{}, fmt.Errorf("--grace: %s is negative; write 0s to end sessions at once", f.Grace)
	case f.HandshakeTimeout <= 0:
		return Config{}, fmt.Errorf("--handshake-timeout: %s is not a time a client could keep; write one such as 10s", f.HandshakeTimeout)
	}
	if c.DNS, err = ParseDNS(f.DNS); err != nil {
		return Config{}, err
	}
	for _, text := range f.Probe {
		p, err := health.ParseProbe(text)
		if err != nil {
			return Config{}, fmt.Errorf("--probe: %w", err)
		}
		c.Probes = append(c.Probes, p)
	}
	if c.Uplinks, err = uplink.ParseSpecs(f.Uplinks); err != nil {
		return Config{}, err
	}
	return c, nil
}

// listeners reads where to listen.
func (f Flags) listeners() (socks, http []netip.AddrPort, err error) {
	host, err := netip.ParseAddr(f.IP)
	if err != nil {
		return nil, nil, fmt.Errorf("--ip: %q is not an IP address; give one of this machine's, such as 127.0.0.1", f.IP)
	}
	switch {
	case f.Port != nil && f.SOCKS != nil:
		return nil, nil, fmt.Errorf("--port %d and --socks both say where to listen for SOCKS; give one of them", *f.Port)
	case f.Port != nil:
		f.SOCKS = []string{":" + strconv.Itoa(int(*f.Port))}
	case f.SOCKS == nil:
		f.SOCKS = []string{defaultSOCKS}
	}
	if f.HTTP == nil {
		f.HTTP = []string{defaultHTTP}
	}
	if socks, err = parseListen("--socks", f.SOCKS, host); err != nil {
		return nil, nil, err
	}
	if http, err = parseListen("--http", f.HTTP, host); err != nil {
		return nil, nil, err
	}
	for _, a := range socks {
		for _, b := range http {
			if a == b && a.Port() != 0 {
				return nil, nil, fmt.Errorf("--socks and --http both name %s; one is enough, for each port serves both protocols: turn one 'off'", a)
			}
		}
	}
	if len(socks)+len(http) == 0 {
		return nil, nil, errors.New("--socks and --http are both off; leave at least one on")
	}
	return socks, http, nil
}

// ParseDNS reads --dns: servers with commas between them, none in an empty text.
func ParseDNS(text string) ([]netip.AddrPort, error) {
	if text == "" {
		return nil, nil
	}
	servers, err := resolver.ParseServers(text)
	if err != nil {
		return nil, fmt.Errorf("--dns: %w", err)
	}
	return servers, nil
}
