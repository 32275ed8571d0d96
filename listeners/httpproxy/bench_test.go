package httpproxy

import (
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"dispatch/testdata/loopback"
)

// benchOrigin answers each head with the same response, at as little cost as can be.
func benchOrigin(b *testing.B, response string) originServer {
	return newOrigin(b, func(p *peer) {
		p.must(p.SetDeadline(time.Time{}))
		for {
			line, err := p.br.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) > 2 {
				continue
			}
			if _, err := io.WriteString(p.TCPConn, response); err != nil {
				return
			}
		}
	})
}

// reverseProxy is what net/http comes with, in the place of the gateway.
func reverseProxy(b *testing.B) netip.AddrPort {
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Host = "127.0.0.1:" + r.In.URL.Port()
			r.Out.URL.Scheme = "http"
		},
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	server := &http.Server{Handler: proxy, ReadHeaderTimeout: loopback.Patience}
	l := loopback.Listen(b)
	go func() { _ = server.Serve(l) }()
	b.Cleanup(func() {
		if err := server.Close(); err != nil {
			b.Error(err)
		}
		transport.CloseIdleConnections()
	})
	return loopback.AddrOf(l)
}

// dial is a client of the gateway, or of what stands in its place.
func dialBench(b *testing.B, to netip.AddrPort) *peer {
	p := newPeer(b, loopback.Dial(b, to))
	p.must(p.SetDeadline(time.Time{}))
	return p
}

// exchange sends a request and takes its response, which ends after size bytes of body.
func (p *peer) exchange(request []byte, size int) error {
	if _, err := p.Write(request); err != nil {
		return err
	}
	for {
		line, err := p.br.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) == 2 {
			_, err := p.br.Discard(size)
			return err
		}
	}
}

// BenchmarkGet is a plain request over connections that are kept alive on both sides, with 8 clients: through this
// package with the dispatcher, through a bare httputil.ReverseProxy, and without either.
func BenchmarkGet(b *testing.B) {
	for _, size := range []int{100, 100_000} {
		o := benchOrigin(b, ok(strings.Repeat("x", size)))
		head := "Host: x\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/html,*/*;q=0.8\r\nAccept-Encoding: gzip, br\r\nAccept-Language: en\r\nCookie: a=b\r\n\r\n"
		u := url.URL{Scheme: "http", Host: "origin:" + o.port, Path: "/index.html"}
		request := []byte("GET " + u.String() + " HTTP/1.1\r\n" + head)
		for _, through := range []struct {
			name string
			at   func(b *testing.B) netip.AddrPort
		}{
			{"dispatch", func(b *testing.B) netip.AddrPort { return start(b, fixtureConfig{quiet: true}).at }},
			{"reverseproxy", reverseProxy},
			{"direct", func(*testing.B) netip.AddrPort { return o.at }},
		} {
			b.Run(strconv.Itoa(size)+"/"+through.name, func(b *testing.B) {
				at := through.at(b)
				before := loopback.CPUTime(b)
				b.SetParallelism(4) // times GOMAXPROCS
				b.ReportAllocs()
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					p := dialBench(b, at)
					defer p.end()
					for pb.Next() {
						if err := p.exchange(request, size); err != nil {
							b.Error(err)
							return
						}
					}
				})
				b.ReportMetric(float64((loopback.CPUTime(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
			})
		}
	}
}

// BenchmarkConnect is the setting up of a tunnel, one byte through it and back, and its end.
func BenchmarkConnect(b *testing.B) {
	o := newOrigin(b, func(p *peer) { _, _ = io.Copy(p.TCPConn, p.br) })
	request := []byte(connectTo("origin:" + o.port))
	once := func(b *testing.B, at netip.AddrPort, tunnelled bool) {
		p := dialBench(b, at)
		defer p.end()
		if tunnelled {
			if err := p.exchange(request, 0); err != nil {
				b.Fatal(err)
			}
		}
		p.send("x")
		p.expect("x")
	}
	b.Run("dispatch", func(b *testing.B) {
		f := start(b, fixtureConfig{quiet: true})
		before := loopback.CPUTime(b)
		b.ReportAllocs()
		for b.Loop() {
			once(b, f.at, true)
		}
		b.ReportMetric(float64((loopback.CPUTime(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
	})
	b.Run("direct", func(b *testing.B) {
		before := loopback.CPUTime(b)
		b.ReportAllocs()
		for b.Loop() {
			once(b, o.at, false)
		}
		b.ReportMetric(float64((loopback.CPUTime(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
	})
}

// BenchmarkDownload is one long response.
func BenchmarkDownload(b *testing.B) {
	const size = 64 << 20
	chunk := strings.Repeat("x", 1<<20)
	for _, framing := range []string{"Content-Length: " + strconv.Itoa(size), "Connection: close"} {
		o := newOrigin(b, func(p *peer) {
			p.must(p.SetDeadline(time.Time{}))
			for {
				for {
					line, err := p.br.ReadSlice('\n')
					if err != nil {
						return
					}
					if len(line) == 2 {
						break
					}
				}
				p.send("HTTP/1.1 200 OK\r\n" + framing + "\r\n\r\n")
				for range size / len(chunk) {
					if _, err := io.WriteString(p.TCPConn, chunk); err != nil {
						return
					}
				}
				if framing == "Connection: close" {
					return
				}
			}
		})
		for _, through := range []struct {
			name string
			at   func(b *testing.B) netip.AddrPort
		}{
			{"dispatch", func(b *testing.B) netip.AddrPort { return start(b, fixtureConfig{quiet: true}).at }},
			{"reverseproxy", reverseProxy},
			{"direct", func(*testing.B) netip.AddrPort { return o.at }},
		} {
			name, _, _ := strings.Cut(framing, ":")
			b.Run(name+"/"+through.name, func(b *testing.B) {
				at := through.at(b)
				b.SetBytes(size)
				before := loopback.CPUTime(b)
				for b.Loop() {
					p := dialBench(b, at)
					p.send(get(o))
					resp, err := http.ReadResponse(p.br, nil)
					if err != nil {
						b.Fatal(err)
					}
					if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != size {
						b.Fatal(n, err)
					}
					p.end()
				}
				b.ReportMetric((loopback.CPUTime(b)-before).Seconds()/float64(b.N)/(size/1e9), "cpu-s/GB")
			})
		}
	}
}
