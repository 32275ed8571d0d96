package resolver

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	maxName  = 253 // bytes without the final dot: 255 on the wire (RFC 1035 section 2.3.4)
	maxLabel = 63
	// maxUnicodeName bounds the work of a conversion, which grows with the square of the length: as many
	// bytes as a name of four-byte characters can have if each becomes one in ASCII.
	maxUnicodeName = 4 * maxName
)

// parseHost returns the address that host spells, or else host's name in the one form that everything behind
// it uses: ASCII, lower case, no final dot.
func parseHost(host string) (string, netip.Addr, error) {
	name, err := toASCII(host)
	if err != nil {
		return "", netip.Addr{}, err
	}
	if strings.Contains(name, ":") {
		addr, err := netip.ParseAddr(name)
		if err != nil {
			return "", netip.Addr{}, fmt.Errorf("%w: has a colon but is not an IPv6 address; give it without brackets and port", ErrInvalidName)
		}
		return "", addr.Unmap(), nil
	}
	name = strings.TrimSuffix(name, ".")
	if err := checkName(name); err != nil {
		return "", netip.Addr{}, err
	}
	if isNumber(name[strings.LastIndexByte(name, '.')+1:]) {
		// No top-level domain is a number (RFC 1123 section 2.1), but some resolvers take "127.1" or
		// "0x7f.1" for an address, past any rule about addresses.
		addr, err := netip.ParseAddr(name)
		if err != nil {
			return "", netip.Addr{}, fmt.Errorf("%w: ends in a number but is not an IPv4 address; write all four parts in decimal", ErrInvalidName)
		}
		return "", addr, nil
	}
	return strings.ToLower(name), netip.Addr{}, nil
}

// checkName tells what keeps name, without its final dot, from being the name of a host. Letters, digits, hyphens and
// underscores (which RFC 1123 does not have but the world does) are all it may hold: what is asked for is put into questions
// and told to the system. Listeners refuse some of this before; but names come from the hosts file, too, and from toASCII,
// whose result can be anything.
func checkName(name string) error {
	if name == "" {
		return fmt.Errorf("%w: empty", ErrInvalidName)
	}
	if len(name) > maxName {
		return fmt.Errorf("%w: %d bytes long; names end at %d", ErrInvalidName, len(name), maxName)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" {
			return fmt.Errorf("%w: an empty label between dots, or at an end", ErrInvalidName)
		}
		if len(label) > maxLabel {
			return fmt.Errorf("%w: a label is longer than %d bytes", ErrInvalidName, maxLabel)
		}
		for _, c := range []byte(label) {
			switch {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
			default:
				return fmt.Errorf("%w: has the character %q", ErrInvalidName, c)
			}
		}
	}
	return nil
}

// toASCII converts an internationalised name as browsers do (UTS #46, nontransitional) and leaves any other as
// it is. The conversion can yield anything, digits and colons too, so its result is still to be checked.
func toASCII(host string) (string, error) {
	if !strings.ContainsFunc(host, func(c rune) bool { return c >= utf8.RuneSelf }) {
		return host, nil
	}
	if len(host) > maxUnicodeName {
		return "", fmt.Errorf("%w: %d bytes long; names end at %d", ErrInvalidName, len(host), maxName)
	}
	if !utf8.ValidString(host) { // the conversion would take each wrong byte for U+FFFD
		return "", fmt.Errorf("%w: not UTF-8", ErrInvalidName)
	}
	// Hyphens and underscores are let through where they stand in real names.
	profile := idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false),
		idna.StrictDomainName(false), idna.CheckHyphens(false))
	name, err := profile.ToASCII(host)
	if err != nil {
		return "", fmt.Errorf("%w: cannot be written in ASCII: %w", ErrInvalidName, err)
	}
	return name, nil
}

// isNumber reports whether label is what the C library's inet_aton would read as a number.
func isNumber(label string) bool {
	digits := "0123456789"
	if len(label) >= 2 && label[0] == '0' && label[1]|0x20 == 'x' {
		label, digits = label[2:], "0123456789abcdefABCDEF"
	}
	return strings.Trim(label, digits) == ""
}

// isLocalhost reports whether name is one that RFC 6761 section 6.3 ties to the loopback.
func isLocalhost(name string) bool {
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}
