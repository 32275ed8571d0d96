package httpproxy

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

var (
	errNoHost   = errors.New("the request names no host")
	errNoPort   = errors.New("CONNECT needs a port, such as example.com:443")
	errPort     = errors.New("the port is not a number from 1 to 65535")
	errUserInfo = errors.New("a user name or password in the address is not passed on; leave it out")
	errHost     = errors.New("the host is neither an IP address nor a name of letters, digits, hyphens, dots and " +
		"underscores; write names of other letters in their xn-- form")
)

// authorityOf reads where a request is to go from the authority of its URL. Without a port it takes defaultPort; where
// that is 0 a port is required, as CONNECT does (RFC 9110 section 9.3.6).
func authorityOf(u *url.URL, defaultPort uint16) (host string, port uint16, err error) {
	if u.User != nil {
		// RFC 9110 section 4.2.4 takes it for an attempt to hide the real host.
		return "", 0, errUserInfo
	}
	host = u.Hostname()
	if err := checkHost(host, strings.HasPrefix(u.Host, "[")); err != nil {
		return "", 0, err
	}
	text := u.Port()
	switch {
	case text != "":
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return "", 0, errPort
		}
		return host, uint16(n), nil
	case defaultPort == 0:
		return "", 0, errNoPort
	}
	return host, defaultPort, nil
}

// checkHost lets pass what needs no escaping, neither in a Host field nor on a page, in brackets where it is an IPv6 address.
// What it names is for the dispatcher and the resolver to judge.
func checkHost(host string, bracketed bool) error {
	addr, err := netip.ParseAddr(host)
	name := host
	if err == nil {
		name = addr.Zone()
	}
	switch {
	case host == "":
		return errNoHost
	case addr.Is6() != bracketed:
		return fmt.Errorf("%w: an IPv6 address is written in brackets, no other host is", errHost)
	case strings.ContainsFunc(name, needsEscape):
		return errHost
	}
	return nil
}

func needsEscape(c rune) bool {
	return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_'
}
