package main

import (
	"bytes"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"dispatch/testdata/netlab"
	"dispatch/testdata/world"
)

// explain names the lines that can carry a connection, in the order of the choice, and why the others cannot.
func TestExplain(t *testing.T) {
	lab := world.New(t, netlab.Config{})
	lab.ClientLink(2, false)
	for target, want := range map[string][]string{
		world.NameOfBoth + ":443": {
			`1\. +wan1 +weight 5 +share 62.5 % +\[2001:db8:5e::1\]:443 from 2001:db8:1::2, then 198.18.0.1:443 from 198.51.100.2`,
			`2\. +wan2 +weight 3 +share 37.5 %`, `not by\n +wan3 +the link is down`,
		},
		"203.0.113.9:80": {`1\. +wan2 +weight 3 +share 100.0 %`, `not by\n +wan1 +the destination is on another uplink's own network`},
		"127.0.0.1:80":   {`1\. +direct`},
	} {
		var out, errs bytes.Buffer
		args := []string{"explain", "--dns", world.DNS, target, "wan1@5", "wan2@3", "wan3@2"}
		if code := run(args, terminal{&out, &errs}); code != exitOK {
			t.Errorf("%s: exit code %d, %s", target, code, &errs)
		}
		for _, pattern := range want {
			find(t, out.String(), "("+pattern+")")
		}
	}
}

// explain takes the states from a running gateway, which tells them to this machine only.
func TestExplainTakesTheStates(t *testing.T) {
	lab := world.New(t, netlab.Config{})
	p := start(t, "--dns", world.DNS, "wan1", "wan2", "wan3")
	for n := range 24 {
		if n == 6 {
			lab.Silence(0, true)
		}
		if _, err := p.Ask(t.Context(), world.SOCKS5, []string{world.Server4, world.OtherServer4}[n%2]); err != nil {
			t.Error(err)
		}
	}
	p.await(t, "uplink is suspect", `"wan1"`)
	var out, errs bytes.Buffer
	args := []string{"explain", "--gateway", p.http, world.Server4 + ":443", "wan1", "wan2", "wan3"}
	if code := run(args, terminal{&out, &errs}); code != exitOK {
		t.Fatalf("exit code %d, %s", code, &errs)
	}
	for _, pattern := range []string{`1\. +wan2 +weight 1 +share 50.0 %`, `2\. +wan3`, `3\. +wan1 +weight 1 +if all else fails`, `wan1 +ipv4 +(suspect|down) since .*: `, `wan2 +ipv4 +up since`, `wan1 +ipv6 +up since`} {
		find(t, out.String(), "("+pattern+")")
	}
	// Without uplinks, the gateway's are taken; a port alone is this machine's.
	out.Reset()
	args = []string{"explain", "--gateway", strings.TrimPrefix(p.http, "127.0.0.1"), world.Server4 + ":443"}
	if code := run(args, terminal{&out, &errs}); code != exitOK {
		t.Fatalf("exit code %d, %s", code, &errs)
	}
	for _, pattern := range []string{`3\. +wan1 +weight 1 +if all else fails`, `wan1 +ipv4 +(suspect|down) since`} {
		find(t, out.String(), "("+pattern+")")
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.http+"/status", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "site.test"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("under the name of a site: %s, %v", resp.Status, err)
	}
}

// The gateway's lines have its weights, also those that are gone now, and it is asked at each of its own addresses.
func TestExplainTakesTheGatewaysLines(t *testing.T) {
	lab := world.New(t, netlab.Config{})
	own := lab.Uplink(0).IPv4.Addr().String()
	p := start(t, "--http", own+":0", "wan1@5", lab.Uplink(1).IPv4.Addr().String()+"@3", "wan3@2")
	lab.DelAddr(1, lab.Uplink(1).IPv4.Addr())
	p.await(t, "uplink is down", `"203.0.113.2"`)
	var out, errs bytes.Buffer
	for _, at := range []string{find(t, p.text(), `(127\.0\.0\.1:[0-9]+)`), find(t, p.text(), "("+regexp.QuoteMeta(own)+":[0-9]+)")} {
		out.Reset()
		if code := run([]string{"explain", "--gateway", at, world.Server4 + ":443"}, terminal{&out, &errs}); code != exitOK {
			t.Fatalf("exit code %d, %s", code, &errs)
		}
		for _, pattern := range []string{`1\. +wan1 +weight 5 +share 71.4 %`, `2\. +wan3 +weight 2 +share 28.6 %`, `not by\n +203.0.113.2 +the machine does not have it now`, `203.0.113.2 +ipv4 +down since`} {
			find(t, out.String(), "("+pattern+")")
		}
	}
}
