package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dispatch/testdata/netlab"
	"dispatch/testdata/world"
)

// curlPayload is sent both ways; its size is the issue's.
const curlPayload = 50 << 20

// requireCurl turns a missing curl into a failure; set where a green run must mean that curl was run.
const requireCurl = "DISPATCH_REQUIRE_CURL"

// curlServer serves the payload and answers uploads with their checksum, over HTTP and, with a certificate of its
// own making, over HTTPS.
func curlServer(t *testing.T, lab *netlab.Lab, payload []byte) {
	t.Helper()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var err error
		switch r.Method {
		case http.MethodGet:
			_, err = w.Write(payload)
		case http.MethodPut, http.MethodPost:
			sum := sha256.New()
			var n int64
			if n, err = io.Copy(sum, r.Body); err == nil {
				_, err = fmt.Fprintf(w, "%d %x", n, sum.Sum(nil))
			}
		}
		if err != nil {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
	})
	for _, a := range []string{world.Server4, world.Server6} {
		for port, secure := range map[uint16]bool{8081: false, 8443: true} {
			s := httptest.NewUnstartedServer(handler)
			if err := s.Listener.Close(); err != nil {
				t.Fatal(err)
			}
			s.Listener = lab.Listen(t, netip.AddrPortFrom(netip.MustParseAddr(a), port))
			if secure {
				s.TLS = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1", "http/1.0"}}
				s.StartTLS()
			} else {
				s.Start()
			}
			t.Cleanup(s.Close)
		}
	}
}

// The README's command, and start's hint, to see the sum of the lines: a connection for each file, in the lines'
// proportion, also where the server speaks HTTP/2.
func TestCurlUsesSeveralConnections(t *testing.T) {
	curl := findCurl(t)
	lab := world.New(t, netlab.Config{})
	var peers sync.Map // the address and port of each connection
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { peers.Store(r.RemoteAddr, nil) }))
	if err := s.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	s.Listener = lab.Listen(t, netip.AddrPortFrom(netip.MustParseAddr(world.Server4), 8443))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	p := start(t, "wan1@2", "wan2@2")
	const flags = "--parallel --parallel-immediate --http1.1"
	find(t, p.text(), "("+flags+")")
	args := append(strings.Fields(flags), "-sk", "-m", "20", "-x", "socks5h://"+p.socks, "https://"+s.Listener.Addr().String()+"/part[1-8]")
	if out, err := exec.CommandContext(t.Context(), curl, args...).CombinedOutput(); err != nil {
		t.Fatalf("curl: %v, %s", err, out)
	}
	count := map[string]int{}
	peers.Range(func(peer, _ any) bool {
		count[netip.MustParseAddrPort(peer.(string)).Addr().String()]++
		return true
	})
	for n := range 2 {
		if a := lab.Uplink(n).IPv4.Addr().String(); count[a] != 4 {
			t.Errorf("%d connections of 8 from %s, want 4: %v", count[a], a, count)
		}
	}
}

// findCurl skips the test where there is no curl.
func findCurl(t *testing.T) string {
	t.Helper()
	curl, err := exec.LookPath("curl")
	if err != nil {
		if os.Getenv(requireCurl) == "1" {
			t.Fatalf("curl is required here: %v", err)
		}
		t.Skipf("THIS TEST DID NOT RUN: it needs curl: %v", err)
	}
	return curl
}

// A real client: every way curl speaks to a proxy, downloads and uploads, checksums compared.
func TestCurl(t *testing.T) {
	curl := findCurl(t)
	lab := world.New(t, netlab.Config{})
	payload := make([]byte, curlPayload)
	if _, err := rand.Read(payload); err != nil {
		t.Fatal(err)
	}
	curlServer(t, lab, payload)
	p := start(t, "--dns", world.DNS, "wan1@5", "wan2@3", "wan3@2")
	dir := t.TempDir()
	upload := filepath.Join(dir, "upload")
	if err := os.WriteFile(upload, payload, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(payload)
	uploaded := fmt.Sprintf("%d %s", len(payload), hex.EncodeToString(sum[:]))

	for name, proxy := range map[string][]string{
		"socks4":           {"--socks4", p.socks},
		"socks4a":          {"--socks4a", p.socks},
		"socks5":           {"--socks5", p.socks},
		"socks5-hostname":  {"--socks5-hostname", p.socks},
		"http":             {"-x", "http://" + p.http},
		"http proxytunnel": {"-x", "http://" + p.http, "--proxytunnel"},
		"http1.0":          {"-x", "http://" + p.http, "--http1.0"},
		"proxy1.0 tunnel":  {"--proxy1.0", p.http, "--proxytunnel"},
		"http on socks":    {"-x", "http://" + p.socks},
		"socks5 on http":   {"--socks5-hostname", p.http},
	} {
		// curl resolves the name itself for socks4 and socks5; the lab's machine has no resolver for it to ask.
		resolve := []string{"--resolve", world.NameOfFour + ":8081:" + world.Server4, "--resolve", world.NameOfFour + ":8443:" + world.Server4}
		for scheme, url := range map[string]string{
			"HTTP": "http://" + world.NameOfFour + ":8081/", "HTTPS": "https://" + world.NameOfFour + ":8443/",
		} {
			t.Run(name+" "+scheme, func(t *testing.T) {
				base := append([]string{"--silent", "--show-error", "--fail", "--insecure", "--max-time", "60"}, proxy...)
				base = append(append(base, resolve...), url)
				begin := time.Now()
				got := run1(t, curl, base...)
				if !bytes.Equal(got, payload) {
					t.Errorf("downloaded %d bytes, which are not those that were sent", len(got))
				}
				down := time.Since(begin)
				if got := run1(t, curl, append(base, "-T", upload)...); string(got) != uploaded {
					t.Errorf("the server got %.100q, want %s", got, uploaded)
				}
				if name != "http1.0" { // which knows no chunks
					got := run1(t, curl, append(base, "-T", "-", "-X", "POST", "-H", "Transfer-Encoding: chunked")...)
					if !strings.HasPrefix(string(got), "0 ") {
						t.Errorf("an empty chunked upload was answered %.100q", got)
					}
				}
				t.Logf("50 MiB down in %s, up in %s", down.Round(time.Millisecond), (time.Since(begin) - down).Round(time.Millisecond))
			})
		}
	}
	// What a user sees of a failure.
	for name, c := range map[string]struct {
		args []string
		exit int
	}{
		"unknown name by socks": {[]string{"--socks5-hostname", p.socks, "http://nowhere.test/"}, 97},
		"refused by socks":      {[]string{"--socks5", p.socks, "http://" + world.Server4 + ":1/"}, 97},
		"refused by http":       {[]string{"--fail", "-x", "http://" + p.http, "http://" + world.Server4 + ":1/"}, 22},
		"refused by tunnel":     {[]string{"-x", "http://" + p.http, "https://" + world.Server4 + ":1/"}, 56},
	} {
		cmd := exec.CommandContext(t.Context(), curl, append([]string{"--silent", "--max-time", "20"}, c.args...)...)
		if err := cmd.Run(); cmd.ProcessState.ExitCode() != c.exit {
			t.Errorf("%s: curl ended with %v, want code %d", name, err, c.exit)
		}
	}
}

func run1(t *testing.T, curl string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), curl, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("curl %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return out
}
