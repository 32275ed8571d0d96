package main

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"dispatch/testdata/loopback"
	"dispatch/testdata/netlab"
	"dispatch/testdata/world"
)

func TestStartTellsWhatItDoes(t *testing.T) {
	netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{{}, {}, {NoDefault4: true, NoDefault6: true}}})
	p := start(t, "wan1@5", "wan2@3", "203.0.113.2@2", "wan3@10")
	for _, want := range []string{
		"SOCKS4, SOCKS4a, SOCKS5 and HTTP", `socks +127\.0\.0\.1:\d+`, `http +127\.0\.0\.1:\d+ +.*/proxy.pac`,
		`wan1 +weight 5 +25\.0 % +198\.51\.100\.2 2001:db8:1::2`, `wan2 +weight 3 +15\.0 % `,
		`203\.0\.113\.2 +weight 2 +10\.0 % `, `log: .*dispatch\.log`, "one connection uses one line",
	} {
		find(t, p.text(), "("+want+")")
	}
	p.logged(t, 1, "line will not work", `"uplink":"wan3"`, `"family":"ipv4"`, `"check":"default_route"`)
	p.signal(t, os.Interrupt)
	p.wait(t)
	find(t, p.text(), "(warning: wan3: ipv4: .*no default route.*; 'dispatch doctor wan3' tells more)")
	info, err := os.Stat(p.logFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the log file: %v, %v", info, err)
	}
}

func TestStartWithoutArgumentsTakesTheLinesWithARoute(t *testing.T) {
	world.New(t, netlab.Config{Uplinks: []netlab.Uplink{{}, {NoDefault4: true, NoDefault6: true}, {NoDefault6: true}}})
	// Unlike wan2, which is a veth as containers have them, this looks like a card.
	for _, command := range []string{"link add lan1 link wan1 type macvlan mode bridge", "link set lan1 up", "addr add 192.0.2.2/24 dev lan1"} {
		if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v, %s", command, err, out)
		}
	}
	p := start(t)
	p.logged(t, 1, "interface is not used", `"interface":"lan1"`)
	p.signal(t, os.Interrupt)
	<-p.ended
	find(t, p.text(), `(wan1 +weight 1 +50\.0 %)`)
	find(t, p.text(), `(wan3 +weight 1 +50\.0 %)`)
	find(t, p.text(), "(not used: lan1: no default route; 'dispatch doctor lan1' tells more)")
	if strings.Contains(p.text(), "wan2") {
		t.Errorf("wan2 has no default route:\n%s", p.text())
	}
}

// The command lines of this program's ancestors.
func TestAncestorsForms(t *testing.T) {
	extra := func(a string) netlab.Uplink {
		return netlab.Uplink{Extra: []netlab.Addr{{Prefix: netip.MustParsePrefix(a)}}}
	}
	for _, form := range []struct {
		first, second string
		args          []string
		want          []string
	}{
		{"10.0.0.0/32", "10.0.0.1/32", []string{"start", "10.0.0.0/7", "10.0.0.1/3"}, []string{
			`socks +127\.0\.0\.1:1080`, `http +127\.0\.0\.1:8080`, `10\.0\.0\.0 +weight 7 +70\.0 %`, `10\.0\.0\.1 +weight 3 +30\.0 %`,
		}},
		{"192.168.110.101/32", "192.168.110.102/32", []string{"start", "--ip", "127.0.0.1", "--port", "10806", "192.168.110.101@7", "192.168.110.102@3"}, []string{
			`socks +127\.0\.0\.1:10806`, `192\.168\.110\.101 +weight 7 +70\.0 %`, `192\.168\.110\.102 +weight 3 +30\.0 %`,
		}},
		{"10.0.0.0/32", "10.0.0.1/32", []string{"-d", "start", "--socks", ":1080", "--http", ":8080", "10.0.0.0", "10.0.0.1"}, []string{
			`log: standard output`, `10\.0\.0\.0 +weight 1 +50\.0 %`,
		}},
	} {
		t.Run(strings.Join(form.args, " "), func(t *testing.T) {
			netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{extra(form.first), extra(form.second)}})
			p := launch(t, form.args...)
			for _, want := range form.want {
				find(t, p.text(), "("+want+")")
			}
			p.signal(t, os.Interrupt)
			if code := p.wait(t); code != exitOK {
				t.Errorf("ended with %d:\n%s", code, p.text())
			}
		})
	}
}

func TestStartNeedsItsPort(t *testing.T) {
	netlab.New(t, netlab.Config{})
	l := loopback.Listen(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Args = []string{"dispatch", "start", "--socks", ":0", "--http", l.Addr().String(), "--log-file", "-", "wan1"}
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != exitFailure {
		t.Errorf("ended with %v", err)
	}
	if !strings.Contains(string(out), "address already in use; choose another address with --http") || strings.Contains(string(out), "listening") {
		t.Errorf("output:\n%s", out)
	}
}
