package socks

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"testing"

	"dispatch/dispatcher"
	"dispatch/testdata/loopback"
)

func FuzzRequest4(f *testing.F) {
	f.Add(ask4("192.0.2.1", 80, "user")[1:])
	f.Add(ask4("name.test", 443, "")[1:])
	f.Add([]byte{1, 0, 80, 0, 0, 0, 1})
	f.Add(append([]byte{1, 0, 80, 0, 0, 0, 1, 0}, strings.Repeat("a", 400)...))
	f.Fuzz(func(t *testing.T, p []byte) {
		q, err := readRequest4(bufio.NewReader(bytes.NewReader(p)))
		if err != nil {
			return
		}
		if len(q.user) > longestField4 || len(q.host) > longestField4 || strings.ContainsRune(q.user+q.host, 0) {
			t.Errorf("parsed %+v", q)
		}
	})
}

// Whatever a client sends, the handler neither panics nor hangs nor leaves the connection open.
func FuzzHandshake(f *testing.F) {
	f.Add(ask5(1, "192.0.2.1", 80))
	f.Add(ask5(1, "name.test", 80))
	f.Add(ask5(3, "::1", 80))
	f.Add(ask4("192.0.2.1", 80, "u"))
	f.Add(ask4("name.test", 80, "u"))
	f.Add([]byte{5, 2, 0, 2, 1, 1, 'a', 1, 'b'})
	f.Add([]byte{5, 255})
	at := serveSOCKS(f, failing(dispatcher.Refused))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) == 0 || p[0] != 4 && p[0] != 5 {
			return
		}
		c := loopback.Dial(t, at)
		// The server may answer, and end, at any time.
		if _, err := c.Write(p); err == nil {
			_ = c.CloseWrite()
		}
		if _, err := io.ReadAll(c); err != nil && !loopback.IsReset(err) {
			t.Errorf("% x: %v", p, err)
		}
	})
}
