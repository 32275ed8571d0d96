package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"dispatch/cmd/dispatch/internal/config"
	"dispatch/dispatcher"
	"dispatch/listeners"
)

// modelGateway is what the model needs of a running gateway.
type modelGateway struct {
	socks, http string // where it listens
	snapshot    func() dispatcher.Snapshot
	stop        func() error
}

// startModelGateway starts a gateway of all three lines in this process.
func startModelGateway(t *testing.T, log *slog.Logger, names string) *modelGateway {
	t.Helper()
	settings, err := config.Flags{
		Uplinks: []string{"wan1", "wan2", "wan3"}, SOCKS: []string{":0"}, HTTP: []string{":0"}, IP: "127.0.0.1",
		DNS: names, HandshakeTimeout: listeners.DefaultHandshakeTimeout,
	}.Config()
	if err != nil {
		t.Fatal(err)
	}
	lines, err := ChooseLines(settings.Uplinks)
	if err != nil {
		t.Fatal(err)
	}
	g, err := New(settings, lines, log)
	if err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceValue(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		var cut error
		if n := g.Shutdown(ctx); n > 0 {
			cut = fmt.Errorf("%d connections of clients were left", n)
		}
		return errors.Join(cut, g.Close())
	})
	t.Cleanup(func() { _ = stop() }) // the test has looked at it, or has failed
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	started := &modelGateway{snapshot: g.dispatcher.Snapshot, stop: stop}
	for _, l := range g.State().Listeners {
		if l.Kind == listeners.SOCKS {
			started.socks = l.Addr.String()
		} else {
			started.http = l.Addr.String()
		}
	}
	return started
}

// modelRecord is a session's closing record.
type modelRecord struct {
	listener, protocol       string
	client                   netip.AddrPort
	host, destination        string
	uplink, class, errorText string
	up, down                 int64
}

// way is the connection that the record is of. A listener is called after its kind and address.
func (r *modelRecord) way() modelWay {
	_, listener, _ := strings.Cut(r.listener, " ")
	return modelWay{r.client, listener}
}

// inRecords is how the protocol is called there.
func (p modelProtocol) inRecords() string {
	return map[modelProtocol]string{modelSOCKS5: "socks5", modelSOCKS4: "socks4", modelSOCKS4a: "socks4a", modelCONNECT: "connect", modelHTTP: "http"}[p]
}

// modelRecords is the log. It keeps the closing records.
type modelRecords struct {
	wrong func(format string, args ...any)

	mu      sync.Mutex
	records []modelRecord
	total   int64
}

// count tells how many records there have been.
func (l *modelRecords) count() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// take returns the records since it was called last.
func (l *modelRecords) take() []modelRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.records
	l.records = nil
	return taken
}

func (l *modelRecords) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}
func (l *modelRecords) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *modelRecords) WithGroup(string) slog.Handler      { return l }

func (l *modelRecords) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "session closed" {
		if r.Level >= slog.LevelError {
			text := r.Message
			r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
			l.wrong("the log says: %s", text)
		}
		return nil
	}
	var m modelRecord
	texts := map[string]*string{
		"listener": &m.listener, "protocol": &m.protocol, "host": &m.host, "destination": &m.destination,
		"uplink": &m.uplink, "class": &m.class, "error": &m.errorText,
	}
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "client":
			m.client, _ = netip.ParseAddrPort(a.Value.String()) // one that is none belongs to no session
		case "up":
			m.up = a.Value.Int64()
		case "down":
			m.down = a.Value.Int64()
		default:
			if text := texts[a.Key]; text != nil {
				*text = a.Value.String()
			}
		}
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, m)
	l.total++
	return nil
}

// compareAccounts says where the accounts have not grown by what the records say.
func compareAccounts(before, now dispatcher.Snapshot, records []modelRecord) (wrong []string) {
	want := map[string]dispatcher.Account{"": before.All}
	for _, a := range before.Uplinks {
		want["uplink "+a.Name] = a.Account
	}
	for _, a := range before.Listeners {
		want["listener "+a.Name] = a.Account
	}
	for _, r := range records {
		for _, name := range []string{"", "uplink " + r.uplink, "listener " + r.listener} {
			a := want[name]
			a.Total++
			a.Up += r.up
			a.Down += r.down
			switch dispatcher.Class(r.class) {
			case dispatcher.Clean, dispatcher.ClientBroken, dispatcher.DestinationBroken, dispatcher.Closed:
			default:
				a.Failed++
			}
			want[name] = a
		}
	}
	got := map[string]dispatcher.Account{"": now.All}
	for _, a := range now.Uplinks {
		got["uplink "+a.Name] = a.Account
	}
	for _, a := range now.Listeners {
		got["listener "+a.Name] = a.Account
	}
	for name := range got {
		if got[name] != want[name] {
			wrong = append(wrong, fmt.Sprintf("the account %q is %+v, and the records sum up to %+v", name, got[name], want[name]))
		}
		delete(want, name)
	}
	for name, a := range want {
		wrong = append(wrong, fmt.Sprintf("there is no account %q; the records sum up to %+v", name, a))
	}
	return wrong
}

// serveNames runs a DNS server that knows the origins, and returns its address.
func (m *model) serveNames() string {
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 0, 53}), 53)
	answer := func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		asked := q.Question[0]
		for _, o := range m.origins {
			if o.name+"." != strings.ToLower(asked.Name) {
				continue
			}
			for _, a := range o.addrs {
				header := dns.RR_Header{Name: asked.Name, Class: dns.ClassINET, Rrtype: asked.Qtype, Ttl: 1}
				switch {
				case a.Is4() && asked.Qtype == dns.TypeA:
					reply.Answer = append(reply.Answer, &dns.A{Hdr: header, A: a.AsSlice()})
				case a.Is6() && asked.Qtype == dns.TypeAAAA:
					reply.Answer = append(reply.Answer, &dns.AAAA{Hdr: header, AAAA: a.AsSlice()})
				}
			}
		}
		_ = w.WriteMsg(reply) // a line that is gone is the gateway's affair
	}
	server := &dns.Server{PacketConn: m.lab.ListenPacket(m.t, at), Handler: dns.HandlerFunc(answer)}
	started, done := make(chan struct{}), make(chan error, 1)
	server.NotifyStartedFunc = func() { close(started) }
	go func() { done <- server.ActivateAndServe() }()
	<-started
	m.t.Cleanup(func() {
		if err := errors.Join(server.Shutdown(), <-done); err != nil {
			m.t.Error(err)
		}
	})
	return at.Addr().String()
}
