package dispatcher

import (
	"net"
	"net/netip"
	"testing"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
)

// BenchmarkRoute is the way of a request up to its ordered lines, without resolving.
func BenchmarkRoute(b *testing.B) {
	d := New(Config{Fleet: benchLines(b)})
	req := Request{Host: "192.0.2.9", Port: 80}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Route(b.Context(), &req); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDial is a whole session on loopback, without a client: route, dial, close, record.
func BenchmarkDial(b *testing.B) {
	l, err := new(net.ListenConfig).Listen(b.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			// The first to close keeps the pair of ports for a minute: the dialling side would soon have none left.
			if err := c.Close(); err != nil {
				b.Error(err)
			}
		}
	}()
	d := New(Config{Fleet: benchLines(b)})
	req := Request{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).AddrPort().Port()}
	b.ReportAllocs()
	for b.Loop() {
		c, err := d.Dial(b.Context(), req)
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		b.Error(err)
	}
	<-done
}

func benchLines(b *testing.B) *uplink.Fleet {
	b.Helper()
	table := &machine.Table{List: func() ([]machine.Interface, error) {
		var out []machine.Interface
		for n, prefix := range []string{"198.51.100.2/24", "203.0.113.2/24", "100.64.2.2/24"} {
			out = append(out, machine.Interface{
				Index: n + 2, Name: string(rune('a' + n)), Up: true,
				Addresses: []machine.Address{{Prefix: netip.MustParsePrefix(prefix)}},
			})
		}
		return out, nil
	}}
	specs, err := uplink.ParseSpecs([]string{"a@5", "b@3", "c@2"})
	if err != nil {
		b.Fatal(err)
	}
	s, err := uplink.NewFleet(table, specs)
	if err != nil {
		b.Fatal(err)
	}
	return s
}
