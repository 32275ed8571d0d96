package httpproxy

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
	"dispatch/testdata/loopback"
	"dispatch/testdata/netlab"
)

// shop is a server behind three lines that answers with the address it sees.
type shop struct {
	*fixture
	lab         *netlab.Lab
	connections atomic.Int32
}

const shopURL = "GET http://shop/ HTTP/1.1\r\nHost: shop\r\n\r\n"

func newShop(t *testing.T, weights ...string) *shop {
	t.Helper()
	s := &shop{lab: netlab.New(t, netlab.Config{})}
	at := netip.MustParseAddrPort("198.18.0.1:80")
	server := &http.Server{
		ReadHeaderTimeout: loopback.Patience,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _, err := net.SplitHostPort(r.RemoteAddr)
			if err != nil {
				t.Error(err)
			}
			if _, err := w.Write([]byte(host)); err != nil {
				t.Error(err)
			}
		}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				s.connections.Add(1)
			}
		},
	}
	l := s.lab.Listen(t, at)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	specs, err := uplink.ParseSpecs(weights)
	if err != nil {
		t.Fatal(err)
	}
	set, err := uplink.NewFleet(new(machine.Table), specs)
	if err != nil {
		t.Fatal(err)
	}
	s.fixture = start(t, fixtureConfig{uplinks: set, zone: map[string]string{"shop": at.Addr().String()}})
	return s
}

// visit makes n requests over each of some connections, and returns how many the shop saw of each line.
func (s *shop) visit(clients, n int) (seen [3]int) {
	s.t.Helper()
	counts := make(chan [3]int, clients)
	for range clients {
		client := s.client()
		go func() {
			var seen [3]int
			defer func() { counts <- seen }()
			for range n {
				client.send(shopURL)
				resp, err := http.ReadResponse(client.br, nil)
				if err != nil {
					s.t.Error(err)
					return
				}
				address, err := io.ReadAll(resp.Body)
				if err != nil {
					s.t.Error(err)
				}
				line := s.lineOf(string(address))
				if line < 0 {
					s.t.Errorf("%s %q", resp.Status, address)
					return
				}
				seen[line]++
			}
		}()
	}
	for range clients {
		for line, n := range <-counts {
			seen[line] += n
		}
	}
	return seen
}

func (s *shop) lineOf(address string) int {
	for n := range 3 {
		if s.lab.Uplink(n).IPv4.Addr().String() == address {
			return n
		}
	}
	return -1
}

// Each request has its turn, though the connections are kept alive.
func TestPlainRequestsAreSharedOut(t *testing.T) {
	s := newShop(t, "wan1@5", "wan2@3", "wan3@2")
	began := time.Now()
	if seen := s.visit(4, 250); seen != [3]int{500, 300, 200} {
		t.Errorf("1000 requests were shared out %v, want 500, 300, 200", seen)
	}
	t.Logf("1000 requests over %d connections in %v", s.connections.Load(), time.Since(began))
	if n := s.connections.Load(); n > 3*4 {
		t.Errorf("%d connections, want at most one for each client and line", n)
	}
	byLine := map[string]int{}
	for _, r := range s.sessions(1000) {
		byLine[r.attrs["uplink"].String()]++
	}
	if byLine["wan1"] != 500 || byLine["wan2"] != 300 || byLine["wan3"] != 200 {
		t.Errorf("the records name %v", byLine)
	}
}

// A line without a way to the shop fails no request, and the connections that stand in for it are kept for the lines
// that they leave by.
func TestPlainRequestsAvoidADeadLine(t *testing.T) {
	for name, kill := range map[string]func(*netlab.Lab){
		"no route":      func(lab *netlab.Lab) { lab.SetDefault4(1, false) },
		"link down":     func(lab *netlab.Lab) { lab.ClientLink(1, false) },
		"silent router": func(lab *netlab.Lab) { lab.Silence(1, true) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, "wan1@2", "wan2", "wan3@2")
			kill(s.lab)
			seen := s.visit(2, 5)
			if seen[1] != 0 || seen[0]+seen[2] != 10 {
				t.Errorf("10 requests were shared out %v", seen)
			}
			for _, r := range s.sessions(10) {
				if name := r.attrs["uplink"].String(); r.class() != "" || name == "wan2" {
					t.Errorf("the record says %v", r)
				}
			}
		})
	}
}

// What has ended holds no descriptor. (No Parallel: others' descriptors would be counted, too.)
func TestDescriptorsAreGivenBack(t *testing.T) {
	o := newOrigin(t, func(p *peer) {
		for {
			if start, err := p.br.Peek(3); err != nil || string(start) != "GET" {
				_, _ = p.rest()
				return
			}
			p.head()
			p.send(ok("hello"))
		}
	})
	before := loopback.Descriptors(t)
	f := start(t, fixtureConfig{})
	for n := range 60 {
		client := f.client()
		switch n % 6 {
		case 0: // served, and the link is kept
			client.send(get(o))
			client.response("GET")
		case 1: // a tunnel
			client.send(connectTo(o.host()))
			client.expect(established)
		case 2: // refused
			client.send(connectTo("nobody:80"))
			client.response("CONNECT")
		case 3: // left half-way
			client.send("POST " + o.url() + "/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nx")
		case 4: // a switch declined
			client.send(upgradeTo(o, "websocket"))
			client.response("GET")
		case 5: // nothing said
		}
		client.end()
	}
	f.eventually("no client is left", func() bool { return f.clients() == 0 })
	f.close()
	f.eventually("all descriptors are given back", func() bool { return loopback.Descriptors(t) <= before })
}
