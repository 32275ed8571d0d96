package resolver

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
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
func newQuery(name string, qtype uint16, edns bool) ([]byte, error) {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	if edns {
		m.SetEdns0(ednsSize, false)
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
		return rcode(msg) != dns.RcodeSuccess && rcode(msg) != dns.RcodeNameError
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

func rcode(msg []byte) int { return int(msg[3] & 0x0f) }

func truncated(msg []byte) bool { return msg[2]&0x02 != 0 }

// refusesEDNS reports whether a server may have stumbled over EDNS (RFC 6891 section 7).
func refusesEDNS(msg []byte) bool {
	return rcode(msg) == dns.RcodeFormatError || rcode(msg) == dns.RcodeNotImplemented
}

// parseAnswer returns the addresses that msg, which matches the query, gives for name, and for how long. None
// and no error: the name does not exist or has none of this family.
func parseAnswer(msg []byte, name string, qtype uint16) ([]netip.Addr, time.Duration, error) {
	switch code := rcode(msg); code {
	case dns.RcodeSuccess:
	case dns.RcodeNameError:
		return nil, negativeTTL, nil
	case dns.RcodeServerFailure:
		return nil, 0, &codeError{"SERVFAIL", "it could not find out; the name's own servers may be down"}
	case dns.RcodeRefused:
		return nil, 0, &codeError{"REFUSED", "it does not serve this line; a provider's server mostly serves its own lines only"}
	default:
		return nil, 0, &codeError{cmp.Or(dns.RcodeToString[code], "what nobody has defined"), fmt.Sprintf("response code %d", code)}
	}
	records, err := parseRecords(msg)
	if err != nil {
		return nil, 0, err
	}
	const authoritative, recursion = 0x04, 0x80
	if len(records) == 0 && msg[2]&authoritative == 0 && msg[3]&recursion == 0 {
		return nil, 0, &codeError{"NOERROR", "a referral: it does not resolve for others"}
	}
	return follow(records, dns.Fqdn(name), qtype)
}

// parseRecords unpacks the answer section, and only that: the others are not used, and what is wrong in them
// need not spoil the answer.
func parseRecords(msg []byte) ([]dns.RR, error) {
	at := headerSize
	if binary.BigEndian.Uint16(msg[4:]) == 1 {
		_, end, err := dns.UnpackDomainName(msg, at)
		if err != nil {
			return nil, fmt.Errorf("malformed answer: %w", err)
		}
		at = end + 4
	}
	var records []dns.RR
	for range binary.BigEndian.Uint16(msg[6:]) {
		if at >= len(msg) { // where UnpackRR would return an empty record, and no error
			return nil, errors.New("malformed answer: it ends before its last record")
		}
		rr, end, err := dns.UnpackRR(msg, at)
		if err != nil {
			return nil, fmt.Errorf("malformed answer: record %d: %w", len(records)+1, err)
		}
		records, at = append(records, rr), end
	}
	return records, nil
}

// follow goes from name through its aliases to addresses; records that are not on this way are of no concern
// to the question and are not believed.
func follow(records []dns.RR, name string, qtype uint16) ([]netip.Addr, time.Duration, error) {
	ttl := maxTTL
	for range maxAliases {
		var addrs []netip.Addr
		alias := ""
		for _, rr := range records {
			h := rr.Header()
			if h.Class != dns.ClassINET || !strings.EqualFold(h.Name, name) {
				continue
			}
			switch cname, is := rr.(*dns.CNAME); {
			case is && alias == "" && cname.Target != "":
				alias = cname.Target
			case h.Rrtype == qtype && len(addrs) < maxAddrs:
				addrs = appendUsable(addrs, recordAddr(rr))
			default:
				continue
			}
			ttl = min(ttl, recordTTL(h))
		}
		if len(addrs) > 0 || alias == "" {
			return addrs, boundTTL(ttl), nil
		}
		name = alias
	}
	return nil, 0, errors.New("malformed answer: its aliases go in a circle or too far")
}

// recordAddr returns the address of an A or AAAA record; not a valid one if the record is empty.
func recordAddr(rr dns.RR) netip.Addr {
	var addr netip.Addr
	switch rr := rr.(type) {
	case *dns.A:
		addr, _ = netip.AddrFromSlice(rr.A)
	case *dns.AAAA:
		addr, _ = netip.AddrFromSlice(rr.AAAA)
	}
	return addr
}

// recordTTL reads a TTL; with the top bit set it counts as 0 (RFC 2181 section 8).
func recordTTL(h *dns.RR_Header) time.Duration {
	if h.Ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(h.Ttl) * time.Second
}
