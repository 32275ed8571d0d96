package machine

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sysClassNet tells wifi and mobile cards from other hardware; netlink does not.
const sysClassNet = "/sys/class/net"

// interfaceKind sorts a link by what a user would call it. Software links that are a line of their own on an
// ethernet (a bond, a VLAN, a macvlan with an address lease of its own) are ethernet; those that only join
// machines and namespaces here (bridges, veth) are virtual, as is software that is not known.
func (l *link) interfaceKind(sysfs string) Kind {
	if l.flags&unix.IFF_LOOPBACK != 0 {
		return KindLoopback
	}
	switch l.software {
	case "":
		return l.hardwareKind(sysfs)
	case "bond", "team", "vlan", "macvlan", "ipvlan", "dsa":
		return KindEthernet
	case "virt_wifi":
		return KindWiFi
	case "wwan", "rmnet":
		return KindMobile
	case "tun":
		// TAP devices carry ethernet frames: those of virtual machines are ports of a bridge, others are VPNs.
		if l.hardware == unix.ARPHRD_ETHER && l.port != "" {
			return KindVirtual
		}
		return KindTunnel
	case "ppp":
		return KindPPP
	case "wireguard", "amneziawg", "ovpn", "ovpn-dco", "xfrm", "vti", "vti6", "gtp", "bareudp",
		"ipip", "ip6tnl", "sit", "gre", "gretap", "ip6gre", "ip6gretap", "erspan", "ip6erspan":
		return KindTunnel
	}
	return KindVirtual
}

func (l *link) hardwareKind(sysfs string) Kind {
	switch l.hardware {
	case unix.ARPHRD_ETHER, unix.ARPHRD_RAWIP, unix.ARPHRD_NONE:
		switch l.deviceType(sysfs) {
		case "wlan":
			return KindWiFi
		case "wwan":
			return KindMobile
		}
		switch l.hardware {
		case unix.ARPHRD_ETHER:
			return KindEthernet
		case unix.ARPHRD_RAWIP:
			return KindMobile // modems are the only hardware without frames
		}
		return KindTunnel
	case unix.ARPHRD_IEEE80211, unix.ARPHRD_IEEE80211_PRISM, unix.ARPHRD_IEEE80211_RADIOTAP:
		return KindWiFi
	case unix.ARPHRD_PPP, unix.ARPHRD_SLIP:
		return KindPPP
	case unix.ARPHRD_TUNNEL, unix.ARPHRD_TUNNEL6, unix.ARPHRD_SIT, unix.ARPHRD_IPGRE, unix.ARPHRD_IP6GRE:
		return KindTunnel
	}
	return KindUnknown
}

// deviceType returns the driver's DEVTYPE, "wlan" or "wwan" among others; empty when there is none or sysfs
// cannot tell. In a container sysfs may be missing, or show the interfaces of another namespace: an entry
// whose index is not the link's own says nothing about it.
func (l *link) deviceType(sysfs string) string {
	dir := filepath.Join(sysfs, l.name)
	uevent, err := os.ReadFile(filepath.Join(dir, "uevent"))
	if err != nil {
		return ""
	}
	kind, index := "", ""
	for line := range strings.Lines(string(uevent)) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), "="); key {
		case "DEVTYPE":
			kind = value
		case "IFINDEX":
			index = value
		}
	}
	if index != strconv.Itoa(l.index) {
		return ""
	}
	if kind == "" {
		// Drivers of the old wireless extensions do not set DEVTYPE, but have this folder.
		if _, err := os.Stat(filepath.Join(dir, "wireless")); err == nil {
			return "wlan"
		}
	}
	return kind
}
