package origin

import (
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// prepare makes the outgoing request of the client's, with its header's map, which loses what is meant for this proxy.
func (x *Exchange) prepare() {
	in := x.In
	x.upgrade = upgradeOf(in)
	trailers, waits := wantsTrailers(in.Header), expectsContinue(in)
	out := in.WithContext(in.Context())
	out.URL = &url.URL{Scheme: "http", Host: in.URL.Host, Opaque: originForm(in)}
	if strings.HasPrefix(out.URL.Opaque, "//") { // which net/url would take for an authority
		out.URL = &url.URL{Scheme: "http", Host: in.URL.Host, Path: in.URL.Path, RawPath: in.URL.RawPath, RawQuery: in.URL.RawQuery, ForceQuery: in.URL.ForceQuery}
	}
	out.Host = strings.TrimSuffix(in.URL.Host, ":")
	out.Close = false
	stripHopByHop(out.Header)
	setConnection(out.Header, x.upgrade, trailers)
	delete(out.Header, "Expect")
	if waits {
		out.Header["Expect"] = []string{"100-continue"}
	}
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // or net/http invents one
	}
	x.out = out
	if in.ContentLength == 0 {
		out.Body = nil
		if out.Header.Get("Content-Length") != "" {
			out.TransferEncoding = []string{"identity"} // keeps a "Content-Length: 0", whatever the method
		}
		return
	}
	if in.ContentLength < 0 {
		out.Trailer = make(http.Header) // filled when the body has ended; the client need not have announced any
		for name := range in.Trailer {
			if httpguts.ValidTrailerHeader(name) {
				out.Trailer[name] = nil
			}
		}
	}
	x.body = &requestBody{x: x, waits: waits}
	out.Body = x.body
}

// originForm returns the path and query as the client wrote them, which a proxy must not change (RFC 9110 section 7.7),
// and parsing and composing a URL does.
func originForm(in *http.Request) string {
	_, rest, _ := strings.Cut(in.RequestURI, "://")
	start := strings.IndexAny(rest, "/?")
	switch {
	case start < 0 && in.Method == http.MethodOptions:
		return "*" // RFC 9112 section 3.2.4
	case start < 0:
		return "/"
	case rest[start] == '?':
		return "/" + rest[start:]
	}
	return rest[start:]
}

// setConnection adds the fields that hold between this proxy and the origin.
func setConnection(h http.Header, upgrade string, trailers bool) {
	var named []string
	if upgrade != "" {
		h["Upgrade"] = []string{upgrade}
		named = append(named, "Upgrade")
	}
	if trailers {
		h["Te"] = []string{"trailers"}
		named = append(named, "TE") // RFC 9110 section 10.1.4
	}
	if named != nil {
		h["Connection"] = []string{strings.Join(named, ", ")}
	}
}

// wantsTrailers tells whether a client takes response trailers, the one word of TE that goes further than one hop.
func wantsTrailers(h http.Header) bool {
	for _, list := range h["Te"] {
		for coding := range strings.SplitSeq(list, ",") {
			name, _, _ := strings.Cut(coding, ";")
			if strings.EqualFold(textproto.TrimString(name), "trailers") {
				return true
			}
		}
	}
	return false
}

// expectsContinue tells whether a client waits with its body. net/http knows of no other expectation, and an HTTP/1.0
// client's is void (RFC 9110 section 10.1.1).
func expectsContinue(in *http.Request) bool {
	return in.ProtoAtLeast(1, 1) && in.ContentLength != 0 && httpguts.HeaderValuesContainsToken(in.Header["Expect"], "100-continue")
}
