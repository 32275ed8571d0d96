package config

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// given is what the command line gives where its user has written nothing.
func given() Flags {
	return Flags{IP: "127.0.0.1", Grace: 5 * time.Second, HandshakeTimeout: time.Second}
}

func TestConfigOfFlags(t *testing.T) {
	t.Parallel()
	port := uint16(1081)
	for name, c := range map[string]struct {
		change      func(*Flags)
		socks, http []string
		uplinks     int
	}{
		"nothing given": {func(*Flags) {}, []string{"127.0.0.1:1080"}, []string{"127.0.0.1:8080"}, 0},
		"--ip":          {func(f *Flags) { f.IP = "::1" }, []string{"[::1]:1080"}, []string{"[::1]:8080"}, 0},
		"--port":        {func(f *Flags) { f.Port = &port }, []string{"127.0.0.1:1081"}, []string{"127.0.0.1:8080"}, 0},
		"one kind off":  {func(f *Flags) { f.HTTP = []string{"off"} }, []string{"127.0.0.1:1080"}, nil, 0},
		"port 0 twice":  {func(f *Flags) { f.SOCKS, f.HTTP = []string{":0", ":0"}, []string{":0"} }, []string{"127.0.0.1:0", "127.0.0.1:0"}, []string{"127.0.0.1:0"}, 0},
		"uplinks":       {func(f *Flags) { f.Uplinks = []string{"eth0@7", "10.0.0.1/3"} }, []string{"127.0.0.1:1080"}, []string{"127.0.0.1:8080"}, 2},
	} {
		f := given()
		c.change(&f)
		got, err := f.Config()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !slices.Equal(texts(got.SOCKS), c.socks) || !slices.Equal(texts(got.HTTP), c.http) || len(got.Uplinks) != c.uplinks ||
			got.Grace != f.Grace || got.HandshakeTimeout != f.HandshakeTimeout {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func texts(addresses []netip.AddrPort) (out []string) {
	for _, a := range addresses {
		out = append(out, a.String())
	}
	return out
}

// An error begins with the flag that is wrong.
func TestConfigNamesTheFlag(t *testing.T) {
	t.Parallel()
	port := uint16(1081)
	for want, change := range map[string]func(*Flags){
		"--ip: ":                func(f *Flags) { f.IP = "here" },
		"--port 1081 and --soc": func(f *Flags) { f.Port, f.SOCKS = &port, []string{":1"} },
		"--socks: ":             func(f *Flags) { f.SOCKS = []string{"*:1"} },
		"--http: ":              func(f *Flags) { f.HTTP = []string{"off", ":1"} },
		"--socks and --http bo": func(f *Flags) { f.SOCKS, f.HTTP = []string{":1"}, []string{":1"} },
		"--socks and --http ar": func(f *Flags) { f.SOCKS, f.HTTP = []string{"off"}, []string{"off"} },
		"--grace: ":             func(f *Flags) { f.Grace = -1 },
		"--handshake-timeout: ": func(f *Flags) { f.HandshakeTimeout = 0 },
		"--dns: ":               func(f *Flags) { f.DNS = "dns.example" },
		"--probe: ":             func(f *Flags) { f.Probe = []string{"gopher://x"} },
		"uplink ":               func(f *Flags) { f.Uplinks = []string{"eth0", "eth0"} },
	} {
		f := given()
		change(&f)
		if c, err := f.Config(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, %+v; want an error that begins with %q", err, c, want)
		}
	}
}

func TestReachedAt(t *testing.T) {
	t.Parallel()
	for listener, want := range map[string]string{
		"0.0.0.0:1": "127.0.0.1:1", "[::]:1": "127.0.0.1:1", "198.51.100.1:1": "198.51.100.1:1", "[::1]:1": "[::1]:1",
	} {
		if got := ReachedAt(netip.MustParseAddrPort(listener)); got.String() != want {
			t.Errorf("%s is reached at %s, want %s", listener, got, want)
		}
	}
}
