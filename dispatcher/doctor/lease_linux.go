package doctor

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// leases finds what DHCP clients have noted down. None of them has to be there.
type leases struct{ root string }

// lease is what a DHCP server has given out.
type lease struct {
	address netip.Prefix // invalid where it is not noted
	router  netip.Addr
	origin  string // the file, as a user would look it up
}

// of finds the lease of an interface: systemd-networkd's, NetworkManager's, or the last one of dhclient. IPv4 only: an
// IPv6 router is no business of DHCP's.
func (s leases) of(device string, index int) (lease, bool) {
	files := []string{"run/systemd/netif/leases/" + strconv.Itoa(index)}
	for _, pattern := range []string{
		"var/lib/NetworkManager/*-" + escapeGlob(device) + ".lease",
		"var/lib/dhcp/dhclient." + escapeGlob(device) + ".leases", "var/lib/dhcp/dhclient.leases",
		"var/lib/dhclient/*.lease*", "var/lib/dhcp3/dhclient*.leases",
	} {
		found, err := filepath.Glob(filepath.Join(s.root, pattern))
		if err != nil {
			continue // a name that makes no pattern has no lease either
		}
		for _, f := range found {
			files = append(files, strings.TrimPrefix(f, s.root))
		}
	}
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(s.root, file))
		if err != nil {
			continue // absent, or for the administrator's eyes only
		}
		l, ok := parseLease(string(text), device, time.Now())
		if ok {
			l.origin = filepath.Join("/", file)
			return l, true
		}
	}
	return lease{}, false
}

func escapeGlob(name string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
}

// reconfigure is the command that makes the network manager set an interface up anew; empty where none looks after it.
func (s leases) reconfigure(device string, index int) string {
	number := strconv.Itoa(index)
	state, err := os.ReadFile(filepath.Join(s.root, "run/systemd/netif/links", number))
	if err == nil && !strings.Contains(string(state), "ADMIN_STATE=unmanaged") {
		return "networkctl reconfigure " + quote(device)
	}
	state, err = os.ReadFile(filepath.Join(s.root, "run/NetworkManager/devices", number))
	if err == nil && strings.Contains(string(state), "managed=true") {
		return "nmcli device connect " + quote(device)
	}
	return ""
}

// parseLease reads the two forms there are: KEY=VALUE lines, and dhclient's blocks.
func parseLease(text, device string, now time.Time) (lease, bool) {
	if strings.Contains(text, "lease {") {
		return parseBlocks(text, device, now)
	}
	values := make(map[string]string)
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[key] = value
		}
	}
	return newLease(values["ADDRESS"], values["NETMASK"], values["ROUTER"])
}

// statement is one of dhclient's (dhclient.leases(5)): a keyword, or "option" and a name, then a value.
var statement = regexp.MustCompile(`(?m)^\s*(?:option\s+)?([a-z-]+)\s+([^;]*);`)

// parseBlocks takes the last block of the interface that has not run out.
func parseBlocks(text, device string, now time.Time) (found lease, ok bool) {
	for _, block := range strings.Split(text, "lease {")[1:] {
		block, _, _ = strings.Cut(block, "}")
		values := make(map[string]string)
		for _, m := range statement.FindAllStringSubmatch(block, -1) {
			values[m[1]] = m[2]
		}
		if name := strings.Trim(values["interface"], `"`); name != device {
			continue
		}
		if expired(values["expire"], now) {
			found, ok = lease{}, false
			continue
		}
		if l, good := newLease(values["fixed-address"], values["subnet-mask"], values["routers"]); good {
			found, ok = l, true
		}
	}
	return found, ok
}

// expired reads "never", "epoch SECONDS" or "WEEKDAY YYYY/MM/DD HH:MM:SS" in UTC.
func expired(text string, now time.Time) bool {
	if seconds, ok := strings.CutPrefix(text, "epoch "); ok {
		seconds, _, _ = strings.Cut(seconds, " ")
		at, err := strconv.ParseInt(seconds, 10, 64)
		return err == nil && now.After(time.Unix(at, 0))
	}
	if _, date, ok := strings.Cut(text, " "); ok {
		at, err := time.Parse("2006/01/02 15:04:05", date)
		return err == nil && now.After(at)
	}
	return false
}

// newLease makes a lease of what is noted; the first router is the preferred one (RFC 2132 section 3.5).
func newLease(address, mask, routers string) (lease, bool) {
	var l lease
	router, _, _ := strings.Cut(strings.NewReplacer(",", " ").Replace(routers), " ")
	if r, err := netip.ParseAddr(router); err == nil && r.Is4() && !r.IsUnspecified() {
		l.router = r
	}
	a, err := netip.ParseAddr(address)
	if m := net.ParseIP(mask).To4(); err == nil && a.Is4() && m != nil {
		if ones, bits := net.IPMask(m).Size(); bits == 32 && ones > 0 {
			l.address = netip.PrefixFrom(a, ones)
		}
	}
	return l, l.router.IsValid() || l.address.IsValid()
}
