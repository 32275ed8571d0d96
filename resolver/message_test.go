package resolver

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/dns/dnsmessage"
)

func TestAnswerRecords(t *testing.T) {
	t.Parallel()
	chain := func(n int) []string {
		lines := []string{fmt.Sprintf("a%d.test. 60 A 192.0.2.1", n)}
		for i := range n {
			lines = append(lines, fmt.Sprintf("a%d.test. 60 CNAME a%d.test.", i, i+1))
		}
		return append(lines, "name.test. 60 CNAME a0.test.")
	}
	for name, test := range map[string]struct {
		lines []string
		want  []string
	}{
		"plain":                {[]string{"name.test. 60 A 192.0.2.1"}, []string{"192.0.2.1"}},
		"other case":           {[]string{"NAME.Test. 60 CNAME Alias.TEST.", "aLIAS.test. 60 A 192.0.2.1"}, []string{"192.0.2.1"}},
		"chain from its end":   {chain(10), []string{"192.0.2.1"}},
		"unrelated owner":      {[]string{"name.test. 60 A 192.0.2.1", "bank.test. 60 A 203.0.113.66"}, []string{"192.0.2.1"}},
		"only unrelated":       {[]string{"bank.test. 60 A 203.0.113.66"}, nil},
		"beside the chain":     {[]string{"name.test. 60 CNAME a.test.", "b.test. 60 A 203.0.113.66", "a.test. 60 A 192.0.2.1"}, []string{"192.0.2.1"}},
		"a second alias":       {[]string{"name.test. 60 CNAME a.test.", "name.test. 60 CNAME b.test.", "b.test. 60 A 203.0.113.66", "a.test. 60 A 192.0.2.1"}, []string{"192.0.2.1"}},
		"alias of nothing":     {[]string{"name.test. 60 CNAME a.test."}, nil},
		"other family":         {[]string{"name.test. 60 AAAA 2001:db8::1", "name.test. 60 A 192.0.2.1"}, []string{"192.0.2.1"}},
		"other class":          {[]string{"name.test. 60 CH A 203.0.113.66", "name.test. 60 A 192.0.2.1"}, []string{"192.0.2.1"}},
		"nowhere":              {[]string{"name.test. 60 A 0.0.0.0"}, nil},
		"nowhere and some":     {[]string{"name.test. 60 A 0.0.0.0", "name.test. 60 A 192.0.2.1"}, []string{"192.0.2.1"}},
		"unknown type":         {[]string{`name.test. 60 TYPE65400 \# 2 abcd`, "name.test. 60 A 192.0.2.1"}, []string{"192.0.2.1"}},
		"signature between":    {[]string{"name.test. 60 RRSIG A 8 2 60 20300101000000 20200101000000 1 test. AAAA", "name.test. 60 A 192.0.2.1"}, []string{"192.0.2.1"}},
		"byte that needs care": {[]string{`name.test. 60 CNAME a\032\255.test.`, `a\032\255.test. 60 A 192.0.2.1`, "a.test. 60 A 203.0.113.66"}, []string{"192.0.2.1"}},
		"Unicode's case":       {[]string{"name.test. 60 CNAME k.test.", `\226\132\170.test. 60 A 203.0.113.66`}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, _, err := parseAnswer(packAnswer(t, test.lines, nil), "name.test", dnsmessage.TypeA)
			if err != nil {
				t.Fatal(err)
			}
			if texts := addrTexts(got); !slices.Equal(texts, test.want) {
				t.Errorf("got %v, want %v", texts, test.want)
			}
		})
	}
	// dnsmessage has no way to write a dot inside a label, so that it cannot be mistaken for two.
	dotted := packAnswer(t, []string{`name.test. 60 CNAME a\.b.test.`, "a.b.test. 60 A 203.0.113.66"}, nil)
	if got, _, err := parseAnswer(dotted, "name.test", dnsmessage.TypeA); err == nil {
		t.Errorf("a dot inside a label led to %v", got)
	}
	if _, _, err := parseAnswer(packAnswer(t, chain(20), nil), "name.test", dnsmessage.TypeA); err == nil {
		t.Error("a chain of 20 aliases was followed")
	}
}

// TestAnswerSectionOnly: addresses elsewhere in the message are not believed, and rubbish there is not minded.
func TestAnswerSectionOnly(t *testing.T) {
	t.Parallel()
	msg := packAnswer(t, []string{"name.test. 60 CNAME a.test."}, []string{"a.test. 60 A 203.0.113.66", "name.test. 60 A 203.0.113.66"})
	if got, _, err := parseAnswer(msg, "name.test", dnsmessage.TypeA); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v from the additional section", got, err)
	}
	msg = packAnswer(t, []string{"name.test. 60 A 192.0.2.1"}, []string{"x.test. 60 A 192.0.2.2"})
	if got, _, err := parseAnswer(msg[:len(msg)-2], "name.test", dnsmessage.TypeA); err != nil || len(got) != 1 {
		t.Errorf("got %v, %v where the additional section is cut", got, err)
	}
}

// TestEmptyRecord: dnsmessage reads an address from behind a record's header, whatever length that tells.
func TestEmptyRecord(t *testing.T) {
	t.Parallel()
	for qtype, line := range map[dnsmessage.Type]string{dnsmessage.TypeA: "name.test. 60 A 192.0.2.1", dnsmessage.TypeAAAA: "name.test. 60 AAAA 2001:db8::1"} {
		msg := packAnswer(t, []string{line}, nil)
		size := 4
		if qtype == dnsmessage.TypeAAAA {
			size = 16
		}
		msg = msg[:len(msg)-size]
		binary.BigEndian.PutUint16(msg[len(msg)-2:], 0)
		for _, behind := range [][]byte{nil, make([]byte, 3), []byte("\xc0\x00\x02\x01 and more than that")} {
			if got, _, err := parseAnswer(append(msg[:len(msg):len(msg)], behind...), "name.test", qtype); err == nil {
				t.Errorf("got %v from an empty record", got)
			}
		}
	}
}

func TestManyAddresses(t *testing.T) {
	t.Parallel()
	var lines []string
	for i := range 1000 {
		lines = append(lines, fmt.Sprintf("name.test. 60 A 10.0.%d.%d", i/256, i%256))
	}
	got, _, err := parseAnswer(packAnswer(t, lines, nil), "name.test", dnsmessage.TypeA)
	if err != nil || len(got) != 256 || got[255] != netip.MustParseAddr("10.0.0.255") {
		t.Errorf("got %d addresses, %v; want the first 256", len(got), err)
	}
}

func TestTTLBounds(t *testing.T) {
	t.Parallel()
	for ttl, want := range map[string]time.Duration{
		"0": time.Second, "1": time.Second, "2": 2 * time.Second, "3600": time.Hour, "3601": time.Hour,
		"2147483647": time.Hour, "2147483648": time.Second, "4294967295": time.Second,
	} {
		_, got, err := parseAnswer(packAnswer(t, []string{"name.test. " + ttl + " A 192.0.2.1"}, nil), "name.test", dnsmessage.TypeA)
		if err != nil || got != want {
			t.Errorf("TTL %s is kept %v, %v; want %v", ttl, got, err, want)
		}
	}
}

// packAnswer packs a resolver's answer to the question for name.test's IPv4 addresses.
func packAnswer(t testing.TB, answer, extra []string) []byte {
	t.Helper()
	m := reply(new(dns.Msg).SetQuestion("name.test.", dns.TypeA))
	for _, line := range answer {
		m.Answer = append(m.Answer, mustRR(t, line))
	}
	for _, line := range extra {
		m.Extra = append(m.Extra, mustRR(t, line))
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func addrTexts(addrs []netip.Addr) []string {
	var texts []string
	for _, addr := range addrs {
		texts = append(texts, addr.String())
	}
	return texts
}

// FuzzAnswer takes any bytes as a server's datagram: first as they are, then with the ID and the question that
// would make them the answer, which is where parsing starts.
func FuzzAnswer(f *testing.F) {
	for _, lines := range [][]string{
		nil,
		{"name.test. 60 A 192.0.2.1", "name.test. 0 AAAA 2001:db8::1"},
		{"name.test. 60 CNAME a.test.", "a.test. 60 CNAME name.test.", "a.test. 4294967295 A 0.0.0.0"},
		{"name.test. 60 TXT hello", `name.test. 60 TYPE65400 \# 2 abcd`, "name.test. 60 AAAA ::ffff:192.0.2.1"},
	} {
		msg := packAnswer(f, lines, lines)
		f.Add(msg, true)
		f.Add(msg, false)
		f.Add(msg[:len(msg)-1], false)
	}
	f.Add([]byte{}, false)
	f.Add([]byte("\x00\x00\x81\x85\x00\x00\x00\x00\x00\x00\x00\x00"), true)
	f.Fuzz(func(t *testing.T, data []byte, v6 bool) {
		qtype := dnsmessage.TypeA
		if v6 {
			qtype = dnsmessage.TypeAAAA
		}
		query, err := newQuery("name.test", qtype, true)
		if err != nil {
			t.Fatal(err)
		}
		checkDatagram(t, data, query, qtype)

		if len(data) < headerSize {
			return
		}
		end := questionEnd(query)
		crafted := slices.Concat(query[:2], data[2:headerSize], query[headerSize:end], data[headerSize:])
		crafted[2] = crafted[2]&0x07 | 0x80 // a reply, to a plain query
		binary.BigEndian.PutUint16(crafted[4:], 1)
		if !matches(crafted, query) {
			t.Fatalf("the reply %x does not match %x", crafted, query)
		}
		checkDatagram(t, crafted, query, qtype)
	})
}

// checkDatagram does with data what is done with a datagram, and checks what must hold for any.
func checkDatagram(t *testing.T, data, query []byte, qtype dnsmessage.Type) {
	if !matches(data, query) || truncated(data) || refusesEDNS(data) {
		return
	}
	addrs, ttl, err := parseAnswer(data, "name.test", qtype)
	if err != nil {
		if len(addrs) != 0 {
			t.Errorf("%v with an error", addrs)
		}
		return
	}
	if ttl < time.Second || ttl > time.Hour || len(addrs) > maxAddrs {
		t.Errorf("%d addresses for %v", len(addrs), ttl)
	}
	for i, addr := range addrs {
		if addr.IsUnspecified() || addr.Is4In6() || !addr.IsValid() || slices.Contains(addrs[:i], addr) || addr.Is6() && qtype == dnsmessage.TypeA {
			t.Errorf("address %v of %v", addr, addrs)
		}
	}
}
