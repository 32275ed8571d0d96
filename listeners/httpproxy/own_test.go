package httpproxy

import (
	"fmt"
	"net/http"
	"testing"
)

// What is for the gateway itself is served by whom the Handler was given, who learns by which addresses it came.
func TestOwn(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{own: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Method, r.URL, r.Host, r.Context().Value(http.LocalAddrContextKey), r.RemoteAddr)
	})})
	client := f.client()
	client.send("GET /a?b HTTP/1.1\r\nHost: c\r\n\r\n")
	if _, body := client.response("GET"); body != fmt.Sprint("GET", "/a?b", "c", f.at.String(), client.LocalAddr()) {
		t.Errorf("got %q", body)
	}
	client.send("OPTIONS * HTTP/1.1\r\nHost: c\r\n\r\n") // net/http's
	if resp, body := client.response("OPTIONS"); resp.StatusCode != http.StatusOK || body != "" {
		t.Errorf("%s %q", resp.Status, body)
	}
	f.sessions(0)
}

func TestOwnOfNobody(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	client := f.client()
	client.send("POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 1\r\n\r\nx")
	if resp, _ := client.response("POST"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("%s", resp.Status)
	}
}
