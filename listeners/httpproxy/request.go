package httpproxy

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// destinationOf returns where a request in absolute form is to go, or the page that refuses it.
func destinationOf(r *http.Request) (host string, port uint16, refusal *http.Response) {
	switch {
	case r.URL.Scheme == "https":
		return "", 0, page(r, http.StatusNotImplemented,
			"this proxy does not speak TLS for its clients; use CONNECT for https addresses, as browsers do")
	case r.URL.Scheme != "http":
		return "", 0, page(r, http.StatusNotImplemented, "this proxy forwards http addresses only, and takes CONNECT for everything else")
	}
	if !r.ProtoAtLeast(1, 1) && r.Header.Get("Content-Length") == "" && hasContent(r.Method) {
		// RFC 1945 section 8.3. Besides, net/http ignores Transfer-Encoding in HTTP/1.0, which would lose the body.
		return "", 0, page(r, http.StatusLengthRequired, "an HTTP/1.0 request of this method has to tell its Content-Length")
	}
	host, port, err := target(r.URL, 80)
	if err != nil {
		return "", 0, page(r, http.StatusBadRequest, err.Error())
	}
	return host, port, nil
}

// hasContent tells whether requests of a method are there to carry something.
func hasContent(method string) bool {
	return method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch
}

// lastHop answers the requests that are not to go any further, and counts the others' hops (RFC 9110 section 7.6.2); nil
// for those that go on.
func lastHop(r *http.Request) *http.Response {
	if r.Method != http.MethodTrace && r.Method != http.MethodOptions {
		return nil
	}
	left, err := strconv.ParseUint(r.Header.Get("Max-Forwards"), 10, 31)
	switch {
	case err != nil:
		return nil
	case left > 0:
		r.Header.Set("Max-Forwards", strconv.FormatUint(left-1, 10))
		return nil
	case r.Method == http.MethodOptions:
		return textPage(r, http.StatusOK, plainText, "")
	}
	return textPage(r, http.StatusOK, "message/http", reflection(r))
}

// reflection is the request as it arrived, without what could be secret (RFC 9110 section 9.3.8).
func reflection(r *http.Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\r\nHost: %s\r\n", r.Method, r.RequestURI, r.Proto, r.Host)
	names := make([]string, 0, len(r.Header))
	for name := range r.Header {
		switch name {
		case "Authorization", "Cookie", "Proxy-Authorization":
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range r.Header[name] {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	b.WriteString("\r\n")
	return b.String()
}
