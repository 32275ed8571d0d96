package origin

import (
	"net/http"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// upgradeOf returns the protocols that a request offers to switch to and that may be passed on, empty when there are
// none. HTTP/2 is left out: it would be spoken between the client and this proxy, with requests for any host.
func upgradeOf(r *http.Request) string {
	if !r.ProtoAtLeast(1, 1) || r.ContentLength != 0 || !httpguts.HeaderValuesContainsToken(r.Header["Connection"], "upgrade") {
		// RFC 9110 section 7.8: not from HTTP/1.0. And with a body there is no telling where it would end and the new
		// protocol begin when the switch comes early; a server is free to ignore the offer, and so are we.
		return ""
	}
	var offered []string
	for _, list := range r.Header["Upgrade"] {
		for protocol := range strings.SplitSeq(list, ",") {
			protocol = textproto.TrimString(protocol)
			if protocol != "" && !strings.EqualFold(protocol, "h2c") {
				offered = append(offered, protocol)
			}
		}
	}
	return strings.Join(offered, ", ")
}

// switchesTo tells whether the protocols that a 101 names were all offered.
func switchesTo(header http.Header, offered string) bool {
	named := false
	for _, list := range header["Upgrade"] {
		for protocol := range strings.SplitSeq(list, ",") {
			if !httpguts.HeaderValuesContainsToken([]string{offered}, textproto.TrimString(protocol)) {
				return false
			}
			named = true
		}
	}
	return named
}
