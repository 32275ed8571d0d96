package main

import (
	"fmt"
	"strings"
	"testing"

	"dispatch/testdata/netlab"
)

// spelling is a way to write an address, and what becomes of who asks for the gateway's own port there.
type spelling struct {
	host string
	fate fate
}

// fate is how a destination is refused, in the words of each protocol; there may be a choice.
type fate []struct{ socks5, http int }

var (
	isSelf      = fate{{2, 403}} // it was recognised
	noName      = fate{{4, 502}} // it is no host name, and nobody is asked about it
	nobodyThere = fate{{5, 502}} // it is another address, where nothing listens
	noRoute     = fate{{3, 502}} // no line leads there
	noHost      = fate{{1, 400}} // no destination can be meant by it
	// localhost may be ::1, too, and of a name that has other addresses these are tried.
	isSelfOrOther = fate{{2, 403}, {5, 502}}
)

func (f fate) inSOCKS5() string {
	all := make([]string, len(f))
	for i, one := range f {
		all[i] = fmt.Sprintf("method 0, refused %d; closed |", one.socks5)
	}
	return strings.Join(all, " or ")
}

func (f fate) inHTTP() string {
	all := make([]string, len(f))
	for i, one := range f {
		all[i] = fmt.Sprintf("%d; closed |", one.http)
	}
	return strings.Join(all, " or ")
}

// spellings are for a listener on 127.0.0.1. The C library, and with it many programs, reads those of fewer parts, or in
// another base, as an address; so a name that is passed on to it would lead to the gateway itself.
var spellings = []spelling{
	{"127.0.0.1", isSelf},
	{"localhost", isSelfOrOther},
	{"LocalHost", isSelfOrOther},
	{"localhost.", isSelfOrOther},
	{"0.0.0.0", isSelf},
	{"[::]", isSelf},
	{"[0:0:0:0:0:0:0:0]", isSelf},
	{"[::0.0.0.0]", isSelf},
	{"[::ffff:127.0.0.1]", isSelf},
	{"[::FFFF:7f00:1]", isSelf},
	{"[0:0:0:0:0:ffff:127.0.0.1]", isSelf},
	{"[::ffff:0.0.0.0]", isSelf},
	{"127.0.0.1.", isSelf},
	{"127.1", noName},
	{"127.0.1", noName},
	{"2130706433", noName},
	{"0x7f.1", noName},
	{"0x7f.0.0.1", noName},
	{"0x7f000001", noName},
	{"0X7F000001", noName},
	{"0177.0.0.1", noName},
	{"017700000001", noName},
	{"127.0.0.01", noName},
	{"127.000.000.001", noName},
	{"0", noName},
	{"127.0.0.2", nobodyThere},
	{"[::ffff:127.0.0.2]", nobodyThere},
	{"[::1]", nobodyThere},
	{"[::127.0.0.1]", noRoute},
	{"[64:ff9b::7f00:1]", noRoute},
	{"[2002:7f00:1::]", noRoute},
}

// The gateway's own ports, asked for in every way that a protocol has to name them. Were it to connect to itself, one
// request would go round until there are no descriptors left.
func ownCases() (cases []wire) {
	for _, s := range spellings {
		cases = append(cases, asked(s)...)
	}
	const tcp5 = "\x05\x01\x00\x05\x01\x00"
	zeros := strings.Repeat("\x00", 10)
	for address, fate := range map[string]fate{
		"\x01\x7f\x00\x00\x01":                      isSelf,
		"\x01\x00\x00\x00\x00":                      isSelf,
		"\x01\x7f\x00\x00\x02":                      nobodyThere,
		"\x04" + zeros + "\xff\xff\x7f\x00\x00\x01": isSelf,
		"\x04" + zeros + "\xff\xff\x00\x00\x00\x00": isSelf,
		"\x04" + zeros + "\x00\x00\x00\x00\x00\x00": isSelf,
		"\x04" + zeros + "\x00\x00\x7f\x00\x00\x01": noRoute,
		"\x04" + zeros + "\x00\x00\x00\x00\x00\x01": nobodyThere,
		"\x03\x05::%lo":                             noHost,
		"\x03\x06::1%lo":                            noHost,
	} {
		for _, port := range []string{"{OWN}", "{OTHER}"} {
			cases = append(cases, wire{name: fmt.Sprintf("SOCKS5 %x %s", address, port), rule: "RFC 1928 4, 6", send: tcp5 + address + port,
				want: fate.inSOCKS5()})
		}
	}
	for _, address := range []string{"\x7f\x00\x00\x01", "\x00\x00\x00\x00"} {
		cases = append(cases, wire{name: fmt.Sprintf("SOCKS4 %x", address), rule: "SOCKS4 CONNECT", send: "\x04\x01{OWN}" + address + "\x00", want: "refused 91; closed |"})
	}
	return cases
}

// asked is one spelling in every protocol that has names.
func asked(s spelling) []wire {
	bare := strings.Trim(s.host, "[]")
	refused := s.fate.inHTTP()
	return []wire{
		{name: "SOCKS5 " + s.host, rule: "RFC 1928 4, 6", send: "\x05\x01\x00\x05\x01\x00\x03" + string([]byte{byte(len(bare))}) + bare + "{OWN}",
			want: s.fate.inSOCKS5()},
		{name: "SOCKS4a " + s.host, rule: "SOCKS4A", send: "\x04\x01{OTHER}\x00\x00\x00\x01\x00" + bare + "\x00", want: "refused 91; closed |"},
		{name: "CONNECT " + s.host, rule: "RFC 9110 7.3.2, 7.6.3", send: "CONNECT " + s.host + ":{own} HTTP/1.1\r\nHost: x\r\n\r\n", want: refused},
		{name: "GET " + s.host, rule: "RFC 9110 7.3.2, 7.6.3", send: "GET http://" + s.host + ":{other}/proxy.pac HTTP/1.1\r\nHost: x\r\n\r\n", want: refused},
	}
}

// A listener on all addresses is reached by each of this machine's.
func ownByAnyAddress(t *testing.T) {
	netlab.Require(t) // elsewhere it would be open to strangers
	for _, all := range []string{"0.0.0.0", "[::]"} {
		g := gauntletFor(t, "--http", all+":0", "--socks", all+":0")
		g.http, g.socks = reachedBy(t, g, "http", all), reachedBy(t, g, "socks", all)
		var cases []wire
		for _, s := range spellings {
			if s.fate[0] == nobodyThere[0] {
				s.fate = isSelf
			}
			cases = append(cases, asked(s)...)
		}
		g.hold(t, cases)
		g.audit(t)
	}
}

// reachedBy is how the listener of this kind on all addresses is reached.
func reachedBy(t *testing.T, g *gauntlet, kind, all string) string {
	t.Helper()
	return "127.0.0.1:" + find(t, g.text(), kind+` +`+strings.NewReplacer("[", `\[`, "]", `\]`, ".", `\.`).Replace(all)+`:(\d+)`)
}
