package httpproxy

import (
	"net/http"
	"strconv"
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
	host, port, err := authorityOf(r.URL, 80)
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
	switch r.Method {
	case http.MethodTrace:
		// It would show what is on the way to whoever can make a client send it (RFC 9110 section 9.3.8).
		p := page(r, http.StatusMethodNotAllowed, "this proxy does not forward TRACE")
		p.Header.Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, CONNECT")
		return p
	case http.MethodOptions:
		left, err := strconv.ParseUint(r.Header.Get("Max-Forwards"), 10, 31)
		if err == nil && left == 0 {
			return textPage(r, http.StatusOK, "")
		}
		if err == nil {
			r.Header.Set("Max-Forwards", strconv.FormatUint(left-1, 10))
		}
	}
	return nil
}
