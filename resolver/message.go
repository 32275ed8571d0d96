package resolver

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// ednsSize is the largest datagram that is asked for: it passes everywhere unfragmented (DNS flag day 2020).
	ednsSize = 1232
	// headerSize is that of RFC 1035 section 4.1.1; the question follows it.
	headerSize = 12
	// maxAliases ends loops of CNAME records, and chains nobody builds in earnest.
	maxAliases = 16
	// maxAddrs bounds the memory one answer can take: a 64 KiB message holds some 4,000 addresses.
	maxAddrs = 256
)

// newQuery packs the question for the addresses of name of one family, with an ID nobody can foresee.
func newQuery(name string, qtype dnsmessage.Type, edns bool) ([]byte, error) {
	fqdn, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil, fmt.Errorf("pack the question for %q: %w", name, err)
	}
	var id [2]byte
	rand.Read(id[:])
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: binary.BigEndian.Uint16(id[:]), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: fqdn, Type: qtype, Class: dnsmessage.ClassINET}},
	}
	if edns {
		opt := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(".")}, Body: new(dnsmessage.OPTResource)}
		if err := opt.Header.SetEDNS0(ednsSize, dnsmessage.RCodeSuccess, false); err != nil {
			return nil, fmt.Errorf("pack the question for %q: %w", name, err)
		}
		m.Additionals = []dnsmessage.Resource{opt}
	}
	query, err := m.Pack()
	if err != nil {
		return nil, fmt.Errorf("pack the question for %q: %w", name, err)
	}
	return query, nil
}

// matches reports whether msg is a reply to query: the same ID, and the same question but for case.
func matches(msg, query []byte) bool {
	if len(msg) < headerSize || msg[0] != query[0] || msg[1] != query[1] {
		return false
	}
	const reply, opcode = 0x80, 0x78
	if msg[2]&reply == 0 || msg[2]&opcode != 0 {
		return false
	}
	if binary.BigEndian.Uint16(msg[4:]) == 0 {
		// Servers that could not read the question may leave it out when they say so. A forger who guessed
		// the ID gains no address by it.
		return rcode(msg) != dnsmessage.RCodeSuccess && rcode(msg) != dnsmessage.RCodeNameError
	}
	end := questionEnd(query)
	if binary.BigEndian.Uint16(msg[4:]) != 1 || len(msg) < end {
		return false
	}
	// The name of the question is the first in the message and so never compressed. Bytes that are no letters
	// (lengths, type, class) are all below 'A'.
	return equalFold(msg[headerSize:end], query[headerSize:end])
}

// questionEnd is where the question of query, which we packed, ends: behind its name, type and class.
func questionEnd(query []byte) int {
	at := headerSize
	for query[at] != 0 {
		at += 1 + int(query[at])
	}
	return at + 1 + 4
}

func equalFold(a, b []byte) bool {
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func rcode(msg []byte) dnsmessage.RCode { return dnsmessage.RCode(msg[3] & 0x0f) }

func truncated(msg []byte) bool { return msg[2]&0x02 != 0 }

// refusesEDNS reports whether a server may have stumbled over EDNS (RFC 6891 section 7).
func refusesEDNS(msg []byte) bool {
	return rcode(msg) == dnsmessage.RCodeFormatError || rcode(msg) == dnsmessage.RCodeNotImplemented
}

// parseAnswer returns the addresses that msg, which matches the query, gives for name, and for how long. None
// and no error: the name does not exist or has none of this family.
func parseAnswer(msg []byte, name string, qtype dnsmessage.Type) ([]netip.Addr, time.Duration, error) {
	switch code := rcode(msg); code {
	case dnsmessage.RCodeSuccess:
	case dnsmessage.RCodeNameError:
		return nil, negativeTTL, nil
	case dnsmessage.RCodeServerFailure:
		return nil, 0, &codeError{"SERVFAIL", "it could not find out; the name's own servers may be down"}
	case dnsmessage.RCodeRefused:
		return nil, 0, &codeError{"REFUSED", "it does not serve this line; a provider's server mostly serves its own lines only"}
	case dnsmessage.RCodeFormatError:
		return nil, 0, &codeError{"FORMERR", "it does not understand the question"}
	case dnsmessage.RCodeNotImplemented:
		return nil, 0, &codeError{"NOTIMP", "it does not answer such questions"}
	default:
		return nil, 0, &codeError{fmt.Sprintf("response code %d", code), "which says nothing about a name's addresses"}
	}
	records, err := parseRecords(msg, qtype)
	if err != nil {
		return nil, 0, fmt.Errorf("malformed answer: %w", err)
	}
	const authoritative, recursion = 0x04, 0x80
	if answers := binary.BigEndian.Uint16(msg[6:]); answers == 0 && msg[2]&authoritative == 0 && msg[3]&recursion == 0 {
		return nil, 0, &codeError{"NOERROR", "a referral: it does not resolve for others"}
	}
	return follow(records, name+".")
}

// record is one of the answer section that may lead to an address.
type record struct {
	owner string // in lower case
	alias string // of a CNAME, in lower case; else empty
	addr  netip.Addr
	ttl   time.Duration
}

// parseRecords reads the answer section's aliases and addresses of one type. The rest of it need only be there; the other
// sections are not used, and what is wrong in them need not spoil the answer.
func parseRecords(msg []byte, qtype dnsmessage.Type) ([]record, error) {
	var p dnsmessage.Parser
	if _, err := p.Start(msg); err != nil {
		return nil, err
	}
	if err := p.SkipAllQuestions(); err != nil {
		return nil, err
	}
	var records []record
	for {
		h, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return records, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Class != dnsmessage.ClassINET || h.Type != qtype && h.Type != dnsmessage.TypeCNAME {
			if err := p.SkipAnswer(); err != nil {
				return nil, err
			}
			continue
		}
		r := record{owner: lowerName(&h.Name), ttl: ttlOf(h)}
		if h.Type == dnsmessage.TypeCNAME {
			body, err := p.CNAMEResource()
			if err != nil {
				return nil, err
			}
			r.alias = lowerName(&body.CNAME)
		} else if r.addr, err = parseAddr(&p, h); err != nil {
			return nil, err
		}
		records = append(records, r)
	}
}

// parseAddr reads the address behind h. It checks the length that h tells, which the parser does not.
func parseAddr(p *dnsmessage.Parser, h dnsmessage.ResourceHeader) (netip.Addr, error) {
	switch {
	case h.Type == dnsmessage.TypeA && h.Length == net.IPv4len:
		body, err := p.AResource()
		return netip.AddrFrom4(body.A), err
	case h.Type == dnsmessage.TypeAAAA && h.Length == net.IPv6len:
		body, err := p.AAAAResource()
		return netip.AddrFrom16(body.AAAA), err
	}
	return netip.Addr{}, fmt.Errorf("%d bytes are no address of its type", h.Length)
}

// ttlOf reads a TTL; with the top bit set it counts as 0 (RFC 2181 section 8).
func ttlOf(h dnsmessage.ResourceHeader) time.Duration {
	if h.TTL > math.MaxInt32 {
		return 0
	}
	return time.Duration(h.TTL) * time.Second
}

// lowerName returns a name as it is compared: without regard to the case of ASCII letters, and of nothing else.
func lowerName(n *dnsmessage.Name) string {
	text := n.Data[:n.Length]
	for i, c := range text {
		text[i] = lower(c)
	}
	return string(text)
}

// follow goes from name, in lower case and with its final dot, through its aliases to addresses; records that are not on
// this way are of no concern to the question and are not believed.
func follow(records []record, name string) ([]netip.Addr, time.Duration, error) {
	ttl := maxTTL
	for range maxAliases {
		var addrs []netip.Addr
		alias := ""
		for _, r := range records {
			switch {
			case r.owner != name:
				continue
			case r.alias == "" && len(addrs) < maxAddrs:
				addrs = appendUsable(addrs, r.addr)
			case r.alias != "" && alias == "":
				alias = r.alias
			default:
				continue
			}
			ttl = min(ttl, r.ttl)
		}
		if len(addrs) > 0 || alias == "" {
			return addrs, boundTTL(ttl), nil
		}
		name = alias
	}
	return nil, 0, errors.New("malformed answer: its aliases go in a circle or too far")
}
