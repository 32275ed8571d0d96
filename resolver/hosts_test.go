package resolver

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseHosts(t *testing.T) {
	t.Parallel()
	table := parseHosts("\ufeff127.0.0.1\tlocalhost\r\n" +
		"# a comment\n\n   \n" +
		"192.0.2.1 one.test ONE two.test. # not.test\r\n" +
		"  2001:db8::1\t\tone.test\n" +
		"192.0.2.1 one.test\n" +
		"::ffff:192.0.2.7 mapped.test\n" +
		"fe80::1%eth0 zone.test\n" +
		"0.0.0.0 ads.test mixed.test\n" +
		":: ads.test\n" +
		"192.0.2.2 mixed.test b\u00fccher.test\n" +
		"192.0.2.3\n" +
		"192.0.2.300 bad.test\n" +
		"name.test 192.0.2.3\n" +
		"192.0.2.4 192.0.2.5 bad/name bad..name good.test\n" +
		"192.0.2.6 last.test")
	want := map[string][]string{
		"localhost": {"127.0.0.1"}, "one.test": {"192.0.2.1", "2001:db8::1"}, "one": {"192.0.2.1"}, "two.test": {"192.0.2.1"},
		"mapped.test": {"192.0.2.7"}, "zone.test": {"fe80::1%eth0"}, "ads.test": nil, "mixed.test": {"192.0.2.2"},
		"xn--bcher-kva.test": {"192.0.2.2"}, "good.test": {"192.0.2.4"}, "last.test": {"192.0.2.6"},
	}
	for name, addrs := range want {
		e, known := table[name]
		if texts := addrTexts(e.addrs); !known || !slices.Equal(texts, addrs) || errors.Is(e.negative, ErrNotFound) != (addrs == nil) {
			t.Errorf("%s: %v, %v, %v; want %v", name, texts, e.negative, known, addrs)
		}
	}
	for name := range table {
		if _, known := want[name]; !known {
			t.Errorf("%s should not be there", name)
		}
	}
}

// TestHostsReload: the file wins over servers and over the cache, and its changes are seen.
func TestHostsReload(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := startServer(t, counted(&asked, records(t, "name.test. 3600 A 192.0.2.1", "other.test. 3600 A 192.0.2.2")))
	path := writeHosts(t, filepath.Join(t.TempDir(), "hosts"), "203.0.113.1 name.test\n")
	synctest.Test(t, func(t *testing.T) {
		r := newResolver(t, Config{Servers: []netip.AddrPort{server}, HostsFile: path, RetryAfter: ample, Timeout: ample})
		wantAddrs(t, r, "Name.test.", "203.0.113.1")
		wantAddrs(t, r, "other.test", "192.0.2.2")
		wantAsked(t, &asked, 2, "after a known and an unknown name")

		writeHosts(t, path, "203.0.113.1 name.test\n203.0.113.2 other.test\n0.0.0.0 ads.test\n")
		time.Sleep(hostsInterval - time.Millisecond)
		wantAddrs(t, r, "other.test", "192.0.2.2") // not looked at yet
		time.Sleep(time.Millisecond)
		wantAddrs(t, r, "other.test", "203.0.113.2")
		_ = wantError(t, r, "ads.test", ErrNotFound)

		// The same size: the time tells.
		writeHosts(t, path, "203.0.113.1 name.test\n203.0.113.9 other.test\n0.0.0.0 ads.test\n")
		if err := os.Chtimes(path, time.Time{}, time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(hostsInterval)
		wantAddrs(t, r, "other.test", "203.0.113.9")

		// The same time: the size tells.
		writeHosts(t, path, "203.0.113.1 name.test\n203.0.113.10 other.test\n0.0.0.0 ads.test\n")
		if err := os.Chtimes(path, time.Time{}, time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(hostsInterval)
		wantAddrs(t, r, "other.test", "203.0.113.10")

		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(hostsInterval)
		wantAddrs(t, r, "name.test", "192.0.2.1")
		wantAsked(t, &asked, 4, "after the file is gone")

		writeHosts(t, path, "203.0.113.3 name.test\n")
		time.Sleep(hostsInterval)
		wantAddrs(t, r, "name.test", "203.0.113.3")
	})
}

// TestHostsUnreadable: a file that cannot be read for a while keeps its names, and is complained of once.
func TestHostsUnreadable(t *testing.T) {
	t.Parallel()
	path := writeHosts(t, filepath.Join(t.TempDir(), "hosts"), "203.0.113.1 name.test\n")
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := newResolver(t, Config{
			Servers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}, HostsFile: path,
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(hostsInterval)
			wantAddrs(t, r, "name.test", "203.0.113.1")
		}
		if got := strings.Count(log.String(), "hosts file cannot be read"); got != 1 {
			t.Errorf("logged %d times: %s", got, log.String())
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		writeHosts(t, path, "203.0.113.2 name.test\n")
		time.Sleep(hostsInterval)
		wantAddrs(t, r, "name.test", "203.0.113.2")
	})
}

// TestSystemHostsFile: the platform's own file is found. What it says is not known here; that it is read without
// a complaint is.
func TestSystemHostsFile(t *testing.T) {
	t.Parallel()
	path, err := systemHostsFile()
	if err != nil || !filepath.IsAbs(path) || filepath.Base(path) != "hosts" {
		t.Fatalf("found %q, %v", path, err)
	}
	var log bytes.Buffer
	h, err := openHosts("", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil || log.Len() > 0 || h.path != path {
		t.Errorf("%v, logged %q, read %q", err, log.String(), h.path)
	}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for name, e := range parseHosts(string(text)) {
		if got, known := h.lookup(name); !known || !slices.Equal(got.addrs, e.addrs) {
			t.Errorf("%s: %v, %v; want %v", name, got.addrs, known, e.addrs)
		}
	}
}

func TestSystemResolverReadsItsOwnHosts(t *testing.T) {
	t.Parallel()
	path := writeHosts(t, filepath.Join(t.TempDir(), "hosts"), "203.0.113.1 name.test\n")
	r := newResolver(t, Config{HostsFile: path, System: func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
	}})
	wantAddrs(t, r, "name.test", "192.0.2.1")
}

func FuzzParseHosts(f *testing.F) {
	f.Add("127.0.0.1 localhost\n::1 localhost ip6-localhost\n")
	f.Add("\ufeff0.0.0.0 ads.test # x\r\n:: ads.test\r\n")
	f.Add("fe80::1%eth0 a b c\n1.2.3.4\n#\n \t\v\f\n::ffff:1.2.3.4 B\u00fc.test")
	f.Fuzz(func(t *testing.T, text string) {
		for name, e := range parseHosts(text) {
			if again, addr, err := parseHost(name); err != nil || addr.IsValid() || again != name {
				t.Errorf("the name %q is kept as %q, %v", name, again, err)
			}
			if (len(e.addrs) == 0) != errors.Is(e.negative, ErrNotFound) {
				t.Errorf("%q has %v and %v", name, e.addrs, e.negative)
			}
			for i, addr := range e.addrs {
				if !addr.IsValid() || addr.Is4In6() || addr.WithZone("").IsUnspecified() || slices.Contains(e.addrs[:i], addr) {
					t.Errorf("%q has %v", name, e.addrs)
				}
			}
		}
	})
}
