package origin

import (
	"bufio"
	"bytes"
	"errors"
	"io"
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

// connectionOptions returns the values of Connection in the response's head that is next in br, as far as br's buffer
// holds it. It waits for that. Where one of them is "close" net/http deletes the field, and with it the names of others
// that are not to be passed on.
func connectionOptions(br *bufio.Reader) (values []string, err error) {
	head, err := nextHead(br)
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(head) {
		name, value, ok := bytes.Cut(line, []byte(":"))
		if ok && bytes.EqualFold(name, []byte("Connection")) {
			values = append(values, string(bytes.TrimSpace(value)))
		}
	}
	return values, nil
}

// nextHead peeks at a head, up to its empty line or what the buffer has room for.
func nextHead(br *bufio.Reader) ([]byte, error) {
	for n := 1; ; n = br.Buffered() + 1 {
		if _, err := br.Peek(n); err != nil { // not to be lost: bufio tells of it once
			if n > 1 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		head, err := br.Peek(br.Buffered())
		if err != nil {
			return nil, err
		}
		for rest := head; ; {
			_, next, ended := bytes.Cut(rest, []byte("\n"))
			if !ended {
				break
			}
			if rest = next; bytes.HasPrefix(rest, []byte("\n")) || bytes.HasPrefix(rest, []byte("\r\n")) {
				return head[:len(head)-len(rest)], nil
			}
		}
		const begin = "HTTP/" // what begins otherwise is no head, and may never have an empty line
		if br.Buffered() == br.Size() || !bytes.HasPrefix(head, []byte(begin[:min(len(begin), len(head))])) {
			return head, nil
		}
	}
}

// idempotent tells whether a request may be sent again when it is not known whether it has arrived (RFC 9110 section
// 9.2.2).
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
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
