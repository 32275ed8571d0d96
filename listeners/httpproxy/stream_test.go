package httpproxy

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"dispatch/dispatcher"

	"dispatch/listeners/httpproxy/origin"
	"dispatch/testdata/loopback"
)

// Nothing that has arrived is held back while more is waited for, whatever its size: the origin sends one piece and goes
// on only when the client has read it.
func TestResponsesAreNotHeldBack(t *testing.T) {
	t.Parallel()
	for _, framing := range []string{"Content-Length: 100000000", "Transfer-Encoding: chunked", "X: y", "Content-Type: text/event-stream"} {
		t.Run(framing, func(t *testing.T) {
			t.Parallel()
			f := start(t, fixtureConfig{})
			next := make(chan int)
			o := newOrigin(t, func(p *peer) {
				p.head()
				p.send("HTTP/1.1 200 OK\r\n" + framing + "\r\n\r\n")
				for size := range next {
					piece := strings.Repeat("x", size)
					if strings.HasSuffix(framing, "chunked") {
						piece = fmt.Sprintf("%x\r\n%s\r\n", size, piece)
					}
					p.send(piece)
				}
			})
			client := f.client()
			client.send(get(o))
			resp, err := http.ReadResponse(client.br, nil) // before there is a body
			if err != nil {
				t.Fatal(err)
			}
			for _, size := range []int{1, 10, 100, 2047, 2048, 2049, 4095, 4096, 4097, 8191, 8192, 8193, 10000, 12287, 12288, 12289, 16384, 20000, 32768, 32769, 65536, 1} {
				next <- size
				if _, err := io.ReadFull(resp.Body, make([]byte, size)); err != nil {
					t.Fatalf("a piece of %d: %v", size, err)
				}
			}
			client.end()
			close(next)
		})
	}
}

// The same for requests.
func TestRequestsAreNotHeldBack(t *testing.T) {
	t.Parallel()
	for _, framing := range []string{"Content-Length: 100000000", "Transfer-Encoding: chunked"} {
		t.Run(framing, func(t *testing.T) {
			t.Parallel()
			f := start(t, fixtureConfig{})
			arrived := make(chan int)
			o := newOrigin(t, func(p *peer) {
				req, err := http.ReadRequest(p.br)
				if err != nil {
					t.Error(err)
					return
				}
				arrived <- 0 // the head comes without any of the body
				for {
					buf := make([]byte, 1<<20)
					n, err := req.Body.Read(buf)
					if err != nil {
						return
					}
					arrived <- n
				}
			})
			client := f.client()
			client.send("POST " + o.url() + "/ HTTP/1.1\r\nHost: x\r\n" + framing + "\r\n\r\n")
			<-arrived
			for _, size := range []int{1, 10, 1000, 2048, 4095, 4096, 4097, 8192, 20000, 32769, 65536, 1} {
				piece := strings.Repeat("x", size)
				if strings.HasSuffix(framing, "chunked") {
					piece = fmt.Sprintf("%x\r\n%s\r\n", size, piece)
				}
				client.send(piece)
				for got := 0; got < size; {
					select {
					case n := <-arrived:
						got += n
					case <-time.After(loopback.Patience):
						t.Fatalf("of a piece of %d only %d arrived", size, got)
					}
				}
			}
			client.end()
		})
	}
}

// Both directions at once: the origin answers each piece before the next is sent.
func TestFullDuplex(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	o := newOrigin(t, func(p *peer) {
		req, err := http.ReadRequest(p.br)
		if err != nil {
			t.Error(err)
			return
		}
		p.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		body := bufio.NewReader(req.Body)
		for {
			line, err := body.ReadString('\n')
			if err != nil {
				p.send("0\r\n\r\n")
				return
			}
			p.send(fmt.Sprintf("%x\r\n%s\r\n", len(line), line))
		}
	})
	client := f.client()
	client.send("POST " + o.url() + "/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	resp, err := http.ReadResponse(client.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	body := bufio.NewReader(resp.Body)
	for n := range 20 {
		line := fmt.Sprintf("line %d\n", n)
		client.send(fmt.Sprintf("%x\r\n%s\r\n", len(line), line))
		if got, err := body.ReadString('\n'); got != line {
			t.Fatalf("got %q (%v), want %q", got, err, line)
		}
	}
	client.send("0\r\n\r\n")
	if rest, err := io.ReadAll(body); err != nil || len(rest) != 0 {
		t.Errorf("then came %q, %v", rest, err)
	}
	// The connection goes on.
	client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	client.response("GET")
	if class := f.session().class(); class != "" {
		t.Errorf("the record says %q", class)
	}
}

// Bulk arrives unchanged both ways, and is counted to the byte.
func TestBulk(t *testing.T) {
	t.Parallel()
	const size = 10 << 20
	data := make([]byte, size)
	if _, err := rand.NewChaCha8([32]byte{}).Read(data); err != nil {
		t.Fatal(err)
	}
	f := start(t, fixtureConfig{})
	wire := make(chan [2]int64, 1)
	o := newOrigin(t, func(p *peer) {
		counted := &countingReader{r: p.TCPConn}
		req, err := http.ReadRequest(bufio.NewReader(counted))
		if err != nil {
			t.Error(err)
			return
		}
		got, err := io.ReadAll(req.Body)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("the origin got %d bytes, %v", len(got), err)
		}
		head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
		p.send(head)
		_, err = p.Write(data)
		p.must(err)
		wire <- [2]int64{counted.n, int64(len(head) + size)}
	})
	client := f.client()
	go func() {
		client.send(fmt.Sprintf("PUT %s/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", o.url(), size))
		_, err := client.Write(data)
		client.must(err)
	}()
	_, body := client.response("PUT")
	if sha256.Sum256([]byte(body)) != sha256.Sum256(data) {
		t.Errorf("the client got %d other bytes", len(body))
	}
	want, r := <-wire, f.session()
	if up, down := r.attrs["up"].Int64(), r.attrs["down"].Int64(); [2]int64{up, down} != want {
		t.Errorf("counted %d up and %d down, want %v", up, down, want)
	}
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func TestTrailers(t *testing.T) {
	t.Parallel()
	for _, announced := range []string{"Trailer: X-Sum, X-More\r\n", ""} {
		f := start(t, fixtureConfig{})
		got := make(chan string, 1)
		o := newOrigin(t, func(p *peer) {
			// The body's chunk looks like a head to peer, and so do its end and the trailers.
			got <- p.head() + p.head()
			p.send("HTTP/1.1 200 OK\r\n" + announced + "Transfer-Encoding: chunked\r\n\r\n" +
				"2\r\nab\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\nX-More: 3\r\nContent-Length: 7\r\n\r\n")
		})
		client := f.client()
		client.send("POST " + o.url() + "/ HTTP/1.1\r\nHost: x\r\n" + announced + "Transfer-Encoding: chunked\r\n\r\n" +
			"2\r\nab\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\nHost: evil\r\n\r\n")
		resp, body := client.response("POST")
		if body != "ab" || resp.Trailer.Get("X-Sum") != "1" || len(resp.Trailer["X-More"]) != 2 || len(resp.Trailer) != 2 {
			t.Errorf("announced %q: got %q with %v", announced, body, resp.Trailer)
		}
		request, told := <-got, announced != ""
		if want := "\r\n\r\n2\r\nab\r\n0\r\nX-More: 2\r\nX-Sum: 1\r\n\r\n"; !strings.HasSuffix(request, want) {
			t.Errorf("announced %q: the origin got %q, want %q", announced, request, want)
		}
		if strings.Contains(request, "\r\nTrailer: X-More,X-Sum\r\n") != told {
			t.Errorf("announced %q: the origin got %q", announced, request)
		}
	}
}

// HTTP/1.0 has no trailers.
func TestTrailersAreNotForHTTP10(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	o := newOrigin(t, answering(func(string) string {
		return "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 1\r\n\r\n"
	}))
	client := f.client()
	client.send("GET " + o.url() + "/ HTTP/1.0\r\n\r\n")
	if head := client.head(); strings.Contains(head, "Trailer") || strings.Contains(head, "chunked") {
		t.Errorf("got %q", head)
	}
	if body := client.whole(); body != "ab" {
		t.Errorf("got %q", body)
	}
}

// A client that waits for a 100 gets the origin's, and not before the origin has sent it.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	const post = "POST %s/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
	t.Run("the origin asks", func(t *testing.T) {
		t.Parallel()
		f := start(t, fixtureConfig{})
		allow := make(chan struct{})
		o := newOrigin(t, func(p *peer) {
			if head := p.head(); !strings.Contains(head, "\r\nExpect: 100-continue\r\n") {
				t.Errorf("arrived as %q", head)
			}
			<-allow
			p.send("HTTP/1.1 100 Go ahead\r\nX-Why: not\r\n\r\n")
			p.expect("ab")
			p.send(ok("thanks"))
		})
		client := f.client()
		client.send(fmt.Sprintf(post, o.url()))
		client.must(client.SetReadDeadline(time.Now().Add(100 * time.Millisecond)))
		if early, err := client.br.Peek(1); err == nil {
			t.Errorf("before the origin's answer came %q", early)
		}
		client.must(client.SetReadDeadline(time.Now().Add(loopback.Patience)))
		close(allow)
		client.expect("HTTP/1.1 100 Continue\r\nX-Why: not\r\n\r\n")
		client.send("ab")
		if resp, body := client.response("POST"); body != "thanks" || resp.Close {
			t.Errorf("%v %q", resp.Header, body)
		}
	})
	t.Run("the origin refuses", func(t *testing.T) {
		t.Parallel()
		f := start(t, fixtureConfig{})
		o := newOrigin(t, func(p *peer) {
			p.head()
			p.send("HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno")
			if rest := p.whole(); rest != "" {
				t.Errorf("then the origin got %q", rest)
			}
		})
		client := f.client()
		client.send(fmt.Sprintf(post, o.url()))
		resp, body := client.response("POST")
		if resp.StatusCode != 417 || body != "no" || !resp.Close {
			t.Errorf("%s %v %q", resp.Status, resp.Header, body)
		}
		client.whole()
		if class := f.session().class(); class != "" {
			t.Errorf("the record says %q", class)
		}
	})
	t.Run("the origin is silent", func(t *testing.T) {
		t.Parallel()
		f := start(t, fixtureConfig{origins: origin.Config{Proceed: 50 * time.Millisecond}})
		o := newOrigin(t, func(p *peer) {
			p.head()
			p.expect("ab")
			p.send(ok("thanks"))
		})
		client := f.client()
		client.send(fmt.Sprintf(post, o.url()))
		client.expect("HTTP/1.1 100 Continue\r\n\r\n")
		client.send("ab")
		client.response("POST")
	})
	t.Run("1.0", func(t *testing.T) {
		t.Parallel()
		f := start(t, fixtureConfig{})
		o := newOrigin(t, func(p *peer) {
			if head := p.head(); strings.Contains(head, "Expect") {
				t.Errorf("arrived as %q", head)
			}
			p.expect("ab")
			p.send("HTTP/1.1 102 Processing\r\n\r\n" + ok("thanks"))
		})
		client := f.client()
		client.send("POST " + o.url() + "/ HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab")
		if head := client.head(); !strings.HasPrefix(head, "HTTP/1.0 200 OK\r\n") {
			t.Errorf("got %q", head)
		}
	})
}

// The origin refuses at the very moment when its silence would count as consent: the client gets one whole response.
func TestExpectContinueAtTheLastMoment(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{origins: origin.Config{Proceed: 2 * time.Millisecond}})
	o := newOrigin(t, func(p *peer) {
		p.head()
		time.Sleep(rand.N(4 * time.Millisecond))
		p.send("HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\nHTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno")
		_, _ = p.rest()
	})
	for range 50 {
		client := f.client()
		client.send("POST " + o.url() + "/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
		for {
			resp, body := client.response("POST")
			if resp.StatusCode == 100 || resp.StatusCode == 103 {
				continue
			}
			if resp.StatusCode != 417 || body != "no" {
				t.Errorf("%s %q", resp.Status, body)
			}
			break
		}
		client.end()
	}
}

// Interim responses come before the final one, at once.
func TestEarlyHints(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	next := make(chan struct{})
	o := newOrigin(t, func(p *peer) {
		p.head()
		p.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\nConnection: x\r\nX: y\r\n\r\n")
		<-next
		p.send("HTTP/1.1 102 Processing\r\n\r\n" + ok("hello"))
	})
	client := f.client()
	client.send(get(o))
	client.expect("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\n")
	close(next)
	client.expect("HTTP/1.1 102 Processing\r\n\r\n")
	if resp, body := client.response("GET"); body != "hello" || len(resp.Header["Link"]) != 0 {
		t.Errorf("%v %q", resp.Header, body)
	}
}

// An origin that answers before it has read the request, and goes on or closes: the client gets the whole response, and
// what it still sends is not taken for a request.
func TestEarlyResponse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		answer func(*peer)
	}{
		{"and waits", func(p *peer) {
			p.send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
			_, _ = p.br.Peek(p.br.Size()) // until the gateway closes
			_, _ = p.rest()
		}},
		{"and closes", func(p *peer) { p.send("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig") }},
	} {
		for _, body := range []int{1 << 10, 1 << 20} { // below and above what net/http would read to the end
			t.Run(fmt.Sprint(c.name, " ", body), func(t *testing.T) {
				t.Parallel()
				f := start(t, fixtureConfig{})
				victim := newOrigin(t, func(p *peer) { t.Errorf("smuggled: %q", p.head()) })
				o := newOrigin(t, func(p *peer) {
					p.head()
					c.answer(p)
				})
				client := f.client()
				client.send(fmt.Sprintf("POST %s/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", o.url(), body))
				resp, text := client.response("POST")
				if resp.StatusCode != 413 || text != "big" {
					t.Errorf("%s %q", resp.Status, text)
				}
				// The rest of the body, which looks like a request. The gateway may have closed by now.
				_, _ = io.WriteString(client.TCPConn, get(victim)+strings.Repeat("x", body-200))
				if rest, err := client.rest(); rest != "" || err != nil && !loopback.IsReset(err) {
					t.Errorf("then came %q, %v", rest, err)
				}
				f.session()
			})
		}
	}
}

// A client that waits with the rest of its body gets an early response at once.
func TestEarlyResponseIsNotDelayed(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	o := newOrigin(t, func(p *peer) {
		p.head()
		p.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
		for range 10 {
			p.send(strings.Repeat("x", 100_000))
		}
		_, _ = p.rest()
	})
	client := f.client()
	client.send("POST " + o.url() + "/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	if _, body := client.response("POST"); len(body) != 1_000_000 {
		t.Errorf("got %d bytes", len(body))
	}
	client.end()
	f.session()
}

// A body that is not one ends the request at the origin, without a complete end, and is answered with 400.
func TestMalformedBody(t *testing.T) {
	t.Parallel()
	f := start(t, fixtureConfig{})
	got := make(chan string, 1)
	o := newOrigin(t, func(p *peer) {
		all, _ := p.rest()
		got <- all
	})
	client := f.client()
	client.send("POST " + o.url() + "/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nmiracle\r\n")
	if resp, body := client.response("POST"); resp.StatusCode != 400 || !resp.Close {
		t.Errorf("%s %q", resp.Status, body)
	}
	if all := <-got; strings.HasSuffix(all, "0\r\n\r\n") || !strings.Contains(all, "ab") {
		t.Errorf("the origin got %q", all)
	}
	if class := f.session().class(); class != dispatcher.ClientBroken {
		t.Errorf("the record says %q", class)
	}
	client.whole()
}
