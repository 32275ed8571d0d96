package main

import "strings"

// What SOCKS clients say, and what they are told. SOCKS4 and 4A are the memos of these names.
func socksCases() []wire {
	const (
		hello   = "\x05\x01\x00"
		here4   = "\x7f\x00\x00\x01{P}"
		v5      = "\x05\x01\x00\x01" + here4
		v4      = "\x04\x01{P}\x7f\x00\x00\x01"
		v4a     = "\x04\x01{P}\x00\x00\x00\x01"
		served  = "method 0, granted, ping; closed | ping"
		served4 = "granted, ping; closed | ping"
		asUser  = "method 2, password 0100, granted, ping; closed | ping"
	)
	refused := func(code string) string { return "method 0, refused " + code + "; closed |" }
	n := func(n int) string { return strings.Repeat("u", n) }
	named := func(host string) string {
		return hello + "\x05\x01\x00\x03" + string([]byte{byte(len(host))}) + host + "{P}ping"
	}
	return []wire{
		{name: "IPv4", rule: "RFC 1928 4", send: hello + v5 + "ping", want: served},
		{name: "IPv4 in IPv6", rule: "RFC 1928 4", send: hello + "\x05\x01\x00\x04" + strings.Repeat("\x00", 10) + "\xff\xff" + here4 + "ping", want: served},
		{name: "IPv6, nobody there", rule: "RFC 1928 6", send: hello + "\x05\x01\x00\x04" + strings.Repeat("\x00", 15) + "\x01{P}ping", want: refused("5")},
		{name: "address as a name", rule: "RFC 1928 4", send: named("127.0.0.1"), want: served},
		{name: "name", rule: "RFC 1928 4", send: named("localhost"), want: served},
		{name: "name in capitals, final dot", rule: "RFC 1928 4", send: named("LOCALHOST."), want: served},
		{name: "no name", rule: "RFC 1928 4", send: named(""), want: refused("1")},
		{name: "longest name", rule: "RFC 1928 4", send: named(strings.Repeat(n(50)+".", 5)), want: refused("1")},
		{name: "label of 64", rule: "RFC 1035 2.3.4", send: named(n(64) + ".test"), want: refused("4")},
		{name: "NUL in a name", rule: "RFC 1928 4", send: named("127.0.0.1\x00.test"), want: refused("1")},
		{name: "line end in a name", rule: "RFC 1928 4", send: named("127.0.0.1\r\n"), want: refused("1")},
		{name: "port 0", rule: "RFC 1928 4", send: hello + "\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x00ping", want: refused("1")},
		{name: "nobody at the port", rule: "RFC 1928 6", send: hello + "\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x01", want: refused("5")},
		{name: "no methods", rule: "RFC 1928 3", send: "\x05\x00", want: "method 255; closed |"},
		{name: "GSSAPI only", rule: "RFC 1928 3", send: "\x05\x01\x01", want: "method 255; closed |"},
		{name: "255 methods", rule: "RFC 1928 3", send: "\x05\xff" + strings.Repeat("\x80", 254) + "\x00" + v5 + "ping", want: served},
		{name: "two methods", rule: "RFC 1928 3", send: "\x05\x02\x00\x02" + v5 + "ping", want: served},
		{name: "two methods, password first", rule: "RFC 1928 3, either", send: "\x05\x02\x02\x00\x01\x01u\x01p" + v5 + "ping", want: asUser},
		{name: "password", rule: "RFC 1929 2", send: "\x05\x01\x02\x01\x01u\x01p" + v5 + "ping", want: asUser},
		{name: "longest password", rule: "RFC 1929 2", send: "\x05\x01\x02\x01\xff" + n(255) + "\xff" + n(255) + v5 + "ping", want: asUser},
		{name: "empty name and password", rule: "RFC 1929 2, left to the server", send: "\x05\x01\x02\x01\x00\x00" + v5 + "ping", want: asUser},
		{name: "password of another version", rule: "RFC 1929 2", send: "\x05\x01\x02\x05\x01u\x01p", want: "method 2; closed |"},
		{name: "request of version 4", rule: "RFC 1928 4", send: hello + "\x04\x01\x00\x01" + here4, want: "method 0; closed |"},
		{name: "BIND", rule: "RFC 1928 6", send: hello + "\x05\x02\x00\x01" + here4, want: refused("7")},
		{name: "UDP ASSOCIATE", rule: "RFC 1928 6", send: hello + "\x05\x03\x00\x01" + here4, want: refused("7")},
		{name: "command 0", rule: "RFC 1928 6", send: hello + "\x05\x00\x00\x01" + here4, want: refused("7")},
		{name: "command 255", rule: "RFC 1928 6", send: hello + "\x05\xff\x00\x01" + here4, want: refused("7")},
		{name: "RESOLVE", rule: "Tor's socks-extensions 2", send: hello + "\x05\xf0\x00\x03\x09localhost\x00\x00", want: "method 0, granted; closed |",
			known: 12, today: refused("7")},
		{name: "kind of address 0", rule: "RFC 1928 6", send: hello + "\x05\x01\x00\x00" + here4, want: refused("8")},
		{name: "kind of address 2", rule: "RFC 1928 6", send: hello + "\x05\x01\x00\x02" + here4, want: refused("8")},
		{name: "kind of address 255", rule: "RFC 1928 6", send: hello + "\x05\x01\x00\xff" + here4, want: refused("8")},
		{name: "RSV is not 0", rule: "RFC 1928 4, forgiven", send: hello + "\x05\x01\xff\x01" + here4 + "ping", want: served},
		{name: "silence behind the greeting", rule: "RFC 1928 3", send: hello, after: fins, want: "method 0; closed |"},

		{name: "4", rule: "SOCKS4 CONNECT", send: v4 + "\x00ping", want: served4},
		{name: "4, longest user", rule: "SOCKS4 CONNECT", send: v4 + n(255) + "\x00ping", want: served4},
		{name: "4, user too long", rule: "SOCKS4 CONNECT", send: v4 + n(256) + "\x00ping", want: "refused 91; closed |"},
		{name: "4, user without end", rule: "SOCKS4 CONNECT", send: v4 + n(100_000), want: "refused 91; closed |", whole: true},
		{name: "4, BIND", rule: "SOCKS4 BIND", send: "\x04\x02{P}\x7f\x00\x00\x01\x00", want: "refused 91; closed |"},
		{name: "4, command 0", rule: "SOCKS4", send: "\x04\x00{P}\x7f\x00\x00\x01\x00", want: "refused 91; closed |"},
		{name: "4, port 0", rule: "SOCKS4 CONNECT", send: "\x04\x01\x00\x00\x7f\x00\x00\x01\x00", want: "refused 91; closed |"},
		{name: "4, nobody at the port", rule: "SOCKS4 CONNECT", send: "\x04\x01\x00\x01\x7f\x00\x00\x01\x00", want: "refused 91; closed |"},
		{name: "4a", rule: "SOCKS4A", send: v4a + "\x00localhost\x00ping", want: served4},
		{name: "4a, address as a name", rule: "SOCKS4A", send: v4a + "u\x00127.0.0.1\x00ping", want: served4},
		{name: "4a, 0.0.0.255", rule: "SOCKS4A", send: "\x04\x01{P}\x00\x00\x00\xff\x00localhost\x00ping", want: served4},
		{name: "4a, no name", rule: "SOCKS4A", send: v4a + "\x00\x00ping", want: "refused 91; closed |"},
		{name: "4a, longest name", rule: "SOCKS4A", send: v4a + "\x00" + n(255) + "\x00", want: "refused 91; closed |"},
		{name: "4a, name too long", rule: "SOCKS4A", send: v4a + "\x00" + n(256) + "\x00", want: "refused 91; closed |"},
		{name: "4a, IPv6 address as a name", rule: "SOCKS4A", send: v4a + "\x00::ffff:127.0.0.1\x00ping", want: served4},

		{name: "version 0", rule: "none of the three", send: "\x00\x01\x00", want: "; closed | or ; reset |"},
		{name: "version 6", rule: "none of the three", send: "\x06\x01\x00", want: "; closed | or ; reset |"},
		{name: "TLS", rule: "none of the three", send: "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", want: "; closed | or ; reset |"},
	}
}
