// Package world is a test network with an internet to ask: servers that tell their client's address, names for them, and
// clients of every protocol that a gateway speaks. What a client is told says which line its request has left by.
package world

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"dispatch/testdata/netlab"
)

// The servers, and their names in DNS.
const (
	DNS          = "198.18.0.53"
	Server4      = "198.18.0.1"
	OtherServer4 = "198.18.0.2"
	Server6      = "2001:db8:5e::1"
	Silent4      = "198.18.0.66" // nobody answers for it, and no error comes back
	Nobody4      = "198.18.0.9"  // answered with "unreachable"

	NameOfFour = "four.test"
	NameOfSix  = "six.test"
	NameOfBoth = "both.test"
	NameOfDead = "dead.test" // its first address is Silent4

	PeerPort = 7 // tells the peer's address over TCP
	WebPort  = 80
)

// New builds the network. It is gone when t ends.
func New(t testing.TB, config netlab.Config) *netlab.Lab {
	t.Helper()
	lab := netlab.New(t, config)
	lab.ServerAddr(netip.MustParseAddr(OtherServer4))
	for _, a := range []string{Server4, OtherServer4, Server6} {
		lab.EchoPeer(t, netip.AddrPortFrom(netip.MustParseAddr(a), PeerPort))
		lab.EchoPeerHTTP(t, netip.AddrPortFrom(netip.MustParseAddr(a), WebPort))
	}
	lab.Internet.Block(netip.MustParseAddr(Silent4), netlab.Drop)
	at := lab.ListenPacket(t, netip.AddrPortFrom(netip.MustParseAddr(DNS), 53))
	server := &dns.Server{PacketConn: at, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if err := w.WriteMsg(answer(q)); err != nil {
			t.Error(err)
		}
	})}
	done := make(chan error, 1)
	go func() { done <- server.ActivateAndServe() }()
	t.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return lab
}

var zone = map[string][]string{
	NameOfFour + ".": {Server4},
	NameOfSix + ".":  {Server6},
	NameOfBoth + ".": {Server4, Server6},
	NameOfDead + ".": {Silent4, Server4},
}

func answer(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	for _, a := range zone[strings.ToLower(q.Question[0].Name)] {
		header := dns.RR_Header{Name: q.Question[0].Name, Class: dns.ClassINET, Ttl: 60}
		ip := net.ParseIP(a)
		switch {
		case ip.To4() != nil && q.Question[0].Qtype == dns.TypeA:
			header.Rrtype = dns.TypeA
			m.Answer = append(m.Answer, &dns.A{Hdr: header, A: ip})
		case ip.To4() == nil && q.Question[0].Qtype == dns.TypeAAAA:
			header.Rrtype = dns.TypeAAAA
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: header, AAAA: ip})
		}
	}
	return m
}
