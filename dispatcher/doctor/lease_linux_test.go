package doctor_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dispatch/dispatcher/doctor"
)

const dhclientLeases = `default-duid "\000\001";
lease {
  interface "eth0";
  fixed-address 192.0.2.7;
  option subnet-mask 255.255.255.0;
  option routers 192.0.2.1,192.0.2.2;
  option domain-name-servers 192.0.2.53;
  renew 1 2026/01/05 10:00:00;
  expire 1 2026/01/05 22:00:00;
}
lease {
  interface "eth1";
  fixed-address 198.51.100.9;
  option subnet-mask 255.255.254.0;
  option routers 198.51.100.1;
  expire never;
}
lease {
  interface "eth2";
  fixed-address 203.0.113.9;
  option subnet-mask 255.255.255.0;
  option routers 203.0.113.1;
  expire epoch 1767600000; # Mon Jan 05 08:00:00 2026
}
`

func TestParseLease(t *testing.T) {
	now := time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, text, device, address, router string
	}{
		{"networkd", "# comment\nADDRESS=192.0.2.5\nNETMASK=255.255.255.128\nROUTER=192.0.2.1 192.0.2.2\nDNS=192.0.2.53\n", "eth0", "192.0.2.5/25", "192.0.2.1"},
		{"NetworkManager", "ADDRESS=192.0.2.5\n", "eth0", "", ""},
		{"router without a mask", "ADDRESS=192.0.2.5\nROUTER=192.0.2.1\n", "eth0", "invalid Prefix", "192.0.2.1"},
		{"no router", "ADDRESS=192.0.2.5\nNETMASK=255.255.255.0\nROUTER=0.0.0.0\n", "eth0", "192.0.2.5/24", "invalid IP"},
		{"mask with a hole", "ADDRESS=192.0.2.5\nNETMASK=255.0.255.0\nROUTER=192.0.2.1\n", "eth0", "invalid Prefix", "192.0.2.1"},
		{"dhclient", dhclientLeases, "eth0", "192.0.2.7/24", "192.0.2.1"},
		{"dhclient, for ever", dhclientLeases, "eth1", "198.51.100.9/23", "198.51.100.1"},
		{"dhclient, run out", dhclientLeases, "eth2", "", ""},
		{"dhclient, another's", dhclientLeases, "eth3", "", ""},
		{"garbage", "lease {\x00\xff;;;} lease { interface ; }", "eth0", "", ""},
		{"empty", "", "eth0", "", ""},
	} {
		address, router, ok := doctor.ParseLease(c.text, c.device, now)
		if ok != (c.address != "" || c.router != "") {
			t.Errorf("%s: %v", c.name, ok)
			continue
		}
		if ok && (address.String() != c.address || router.String() != c.router) {
			t.Errorf("%s: %v by %v, not %s by %s", c.name, address, router, c.address, c.router)
		}
	}
	if _, _, ok := doctor.ParseLease(dhclientLeases, "eth0", now.Add(12*time.Hour)); ok {
		t.Error("a lease outlives its end")
	}
}

func FuzzParseLease(f *testing.F) {
	f.Add(dhclientLeases, "eth0")
	f.Add("ADDRESS=192.0.2.5\nNETMASK=255.255.255.128\nROUTER=192.0.2.1 192.0.2.2\n", "eth0")
	f.Add("lease { interface \"eth0\"; expire 1 2026/13/45 99:00:00; option routers ,; }", "eth0")
	f.Fuzz(func(t *testing.T, text, device string) {
		address, router, ok := doctor.ParseLease(text, device, time.Unix(0, 0))
		if ok && !address.IsValid() && !router.IsValid() {
			t.Error("a lease of nothing")
		}
		if address.IsValid() && (!address.Addr().Is4() || address.Bits() < 1) || router.IsValid() && !router.Is4() {
			t.Errorf("%v by %v", address, router)
		}
	})
}

func TestLeasesAreFound(t *testing.T) {
	for file, text := range map[string]string{
		"run/systemd/netif/leases/7":                     "ADDRESS=192.0.2.7\nNETMASK=255.255.255.0\nROUTER=192.0.2.1\n",
		"var/lib/dhcp/dhclient.eth[0].leases":            "lease {\n interface \"eth[0]\";\n fixed-address 192.0.2.7;\n option subnet-mask 255.255.255.0;\n option routers 192.0.2.1;\n}\n",
		"var/lib/dhclient/dhclient--eth[0].lease":        "lease {\n interface \"eth[0]\";\n fixed-address 192.0.2.7;\n option subnet-mask 255.255.255.0;\n option routers 192.0.2.1;\n}\n",
		"var/lib/NetworkManager/internal-u-eth[0].lease": "ADDRESS=192.0.2.7\nNETMASK=255.255.255.0\nROUTER=192.0.2.1\n",
	} {
		root := t.TempDir()
		write(t, filepath.Join(root, file), text)
		address, router, ok := doctor.ReadLease(root, "eth[0]", 7)
		if !ok || address != netip.MustParsePrefix("192.0.2.7/24") || router != netip.MustParseAddr("192.0.2.1") {
			t.Errorf("%s: %v by %v, %v", file, address, router, ok)
		}
		if address, _, ok := doctor.ReadLease(root, "eth1", 8); ok {
			t.Errorf("%s: another interface has its %v", file, address)
		}
	}
}

func TestNetworkManagersAreKnown(t *testing.T) {
	for _, c := range []struct{ file, text, want string }{
		{"run/systemd/netif/links/7", "ADMIN_STATE=configured\n", "networkctl reconfigure eth0"},
		{"run/systemd/netif/links/7", "ADMIN_STATE=unmanaged\n", ""},
		{"run/NetworkManager/devices/7", "[device]\nmanaged=true\n", "nmcli device connect eth0"},
		{"run/NetworkManager/devices/7", "[device]\nmanaged=false\n", ""},
		{"run/NetworkManager/devices/8", "[device]\nmanaged=true\n", ""},
	} {
		root := t.TempDir()
		write(t, filepath.Join(root, c.file), c.text)
		if got := doctor.Reconfigure(root, "eth0", 7); got != c.want {
			t.Errorf("%s %q: %q, not %q", c.file, c.text, got, c.want)
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestOlderThan(t *testing.T) {
	for release, want := range map[string]bool{
		"5.6.19": true, "4.19.0-27-amd64": true, "5.7.0": false, "5.10": false, "6.1.0-13-amd64": false, "": false, "x": false,
	} {
		if got := doctor.OlderThan(release, 5, 7); got != want {
			t.Errorf("%s: %v", release, got)
		}
	}
}

// What is quoted is one word to a shell, whatever it holds.
func TestQuote(t *testing.T) {
	for _, text := range []string{"eth0", "wg-home", "", "a b", "$(id)", "it's", "a;b", "*"} {
		if got := output(t, "printf %s "+doctor.Quote(text)); got != text {
			t.Errorf("%q came to be %q", text, got)
		}
	}
}
