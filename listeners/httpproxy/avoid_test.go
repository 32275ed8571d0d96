package httpproxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// However often lines are doubted, no client sees a part of a response, nor an error.
func TestAvoidBesideResponses(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{quiet: true})
	body := strings.Repeat("x", 20000)
	o := newOrigin(t, func(p *peer) {
		for {
			if _, err := http.ReadRequest(p.br); err != nil {
				return
			}
			if _, err := io.WriteString(p.TCPConn, ok(body)); err != nil { // given up
				return
			}
		}
	})
	stop := make(chan struct{})
	var doubting sync.WaitGroup
	doubting.Go(func() {
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				f.handler.Avoid(all, false)
			}
		}
	})
	var clients sync.WaitGroup
	for range 4 {
		client := f.client()
		clients.Go(func() {
			for range 250 {
				client.send(get(o))
				resp, err := http.ReadResponse(client.br, nil)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				if what := fmt.Sprint(resp.Status, " ", len(got), " ", err); what != "200 OK 20000 <nil>" {
					t.Error(what)
					return
				}
			}
		})
	}
	clients.Wait()
	close(stop)
	doubting.Wait()
}
