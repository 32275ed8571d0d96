package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"dispatch/testdata/netlab"
)

// A VPN that owns the default route is no further line beside a card, nor are the lab's veths, which are as containers
// have them; start says so, and that the card's connections go past the VPN. list shows the same choice.
func TestStartLeavesOutTunnelsBesideLines(t *testing.T) {
	netlab.New(t, netlab.Config{})
	netlab.Tunnel(t, "vpn0")
	for _, command := range []string{
		"link set vpn0 up", "addr add 192.0.2.77/32 dev vpn0", "route add default dev vpn0 metric 1",
		"link add card0 link wan1 type macvlan mode bridge", "link set card0 up", "addr add 198.51.100.77/24 dev card0",
		"route add default via 198.51.100.1 dev card0 metric 50",
	} {
		if out, err := exec.CommandContext(t.Context(), "ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v, %s", command, err, out)
		}
	}

	p := start(t)
	p.logged(t, 1, "a VPN owns the default route", `"uplink":"card0"`, `"family":"ipv4"`)
	p.logged(t, 1, "interface is not used", `"interface":"wan1"`)
	p.signal(t, os.Interrupt)
	<-p.ended
	for _, want := range []string{
		`card0 +weight 1 +100\.0 %`,
		"not used: vpn0: a tunnel beside other lines; name it to use it; 'dispatch doctor vpn0' tells more",
		"not used: wan1: a virtual interface beside other lines; name it to use it",
		"warning: card0: ipv4: the VPN vpn0 owns the default route; connections by card0 go past it; 'dispatch doctor card0' tells more",
	} {
		find(t, p.text(), "("+want+")")
	}

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Args = []string{"dispatch", "list", "--json"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []listed
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, l := range list {
		used[l.Name] = l.UsedByStart
	}
	if _, ok := used["vpn0"]; !ok || !used["card0"] || used["vpn0"] || used["wan1"] || used["wan2"] {
		t.Errorf("list says that start uses %v", used)
	}
}
