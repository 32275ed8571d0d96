package httpproxy

import (
	"net/http"
	"net/textproto"
	"strings"
)

// stripHopByHop removes the fields that are meant for this proxy only: those that Connection names, and those that are
// always so (RFC 9110 section 7.6.1; Http2-Settings: RFC 7540 section 3.2.1). Framing fields are net/http's affair.
func stripHopByHop(h http.Header) {
	for _, list := range h["Connection"] {
		for token := range strings.SplitSeq(list, ",") {
			h.Del(textproto.TrimString(token))
		}
	}
	delete(h, "Connection")
	delete(h, "Http2-Settings")
	delete(h, "Keep-Alive")
	delete(h, "Proxy-Authenticate")
	delete(h, "Proxy-Authentication-Info")
	delete(h, "Proxy-Authorization")
	delete(h, "Proxy-Connection")
	delete(h, "Te")
	delete(h, "Trailer")
	delete(h, "Transfer-Encoding")
	delete(h, "Upgrade")
}

// idempotent tells whether a request may be sent again when it is not known whether it has arrived (RFC 9110 section
// 9.2.2).
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// authenticatesConnection tells whether a request logs its connection on, not just itself: what follows on that
// connection is taken to be the same user's (RFC 4559 section 6; NTLM does alike).
func authenticatesConnection(h http.Header) bool {
	scheme, _, _ := strings.Cut(h.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "NTLM") || strings.EqualFold(scheme, "Negotiate")
}
