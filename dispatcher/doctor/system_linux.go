package doctor

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"dispatch/dispatcher/machine"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// system is what an examination knows of Linux.
type system struct {
	kernel *kernel
	leases leases
}

func (s *system) open() (err error) {
	s.leases = leases{root: "/"}
	s.kernel, err = openKernel()
	return err
}

func (s *system) close() { s.kernel.close() }

// isPort tells whether the interface is a port of a bridge, a bond or their like, and so no line by itself.
func isPort(name string) bool {
	_, err := os.Stat(filepath.Join("/sys/class/net", name, "master"))
	return err == nil
}

// raise switches a link on. What the kernel has forgotten with it - its routes, IPv6 addresses - comes back by itself
// where a network manager looks after the link, and else from the lease.
func (e *examination) raise(l *line) []string {
	commands := []string{"ip link set dev " + quote(l.Interface) + " up"}
	if reconfigure := e.leases.reconfigure(l.Interface, l.link.Index); reconfigure != "" {
		return append(commands, reconfigure)
	}
	return append(commands, e.restore(l.iface, netip.Addr{})...)
}

// afterwards says what raise cannot do.
func (e *examination) afterwards(l *line) string {
	if len(e.raise(l)) > 1 {
		return ""
	}
	return "; once it is on, its routes have to be set up again: run this again then"
}

// restore are the commands that bring an address and the way out back, from the lease of a DHCP client. Only where no
// network manager does it; want, where valid, is the address that is sought.
func (e *examination) restore(i *machine.Interface, want netip.Addr) []string {
	lease, ok := e.leases.of(i.Name, i.Index)
	if !ok || !lease.address.IsValid() || want.IsValid() && lease.address.Addr() != want {
		return nil
	}
	var commands []string
	if !hasAddress(i, lease.address.Addr()) {
		commands = append(commands, fmt.Sprintf("ip addr add %s dev %s", lease.address, quote(i.Name)))
	}
	if lease.router.IsValid() {
		commands = append(commands, e.policyCommands(i, lease.address.Addr(), gateway{addr: lease.router})...)
	}
	return commands
}

func hasAddress(i *machine.Interface, addr netip.Addr) bool {
	for _, a := range i.Addresses {
		if a.Prefix.Addr() == addr {
			return true
		}
	}
	return false
}

// restoreAddress brings an address back to the interface that is still on its network.
func (e *examination) restoreAddress(i *machine.Interface, addr netip.Addr) []string {
	if commands := e.restore(i, addr); commands != nil {
		return commands
	}
	// The machine has moved on to another address of the network: that one is to be used.
	return nil
}

// formerOwner finds the interface that a lease says had the address.
func (e *examination) formerOwner(addr netip.Addr) (*machine.Interface, []string) {
	for n := range e.interfaces {
		i := &e.interfaces[n]
		if lease, ok := e.leases.of(i.Name, i.Index); ok && lease.address.Addr() == addr {
			if reconfigure := e.leases.reconfigure(i.Name, i.Index); reconfigure != "" {
				return i, []string{reconfigure}
			}
			return i, e.restore(i, addr)
		}
	}
	return nil, nil
}

// readdress gives an interface an address again.
func (e *examination) readdress(l *line) (commands []string, advice string) {
	if reconfigure := e.leases.reconfigure(l.Interface, l.link.Index); reconfigure != "" {
		return []string{reconfigure}, ""
	}
	if commands := e.restore(l.iface, netip.Addr{}); commands != nil {
		return commands, ""
	}
	return nil, "; start your DHCP client on it, or give it its address with 'ip addr add ADDRESS/LENGTH dev " + l.Interface + "'"
}

func (e *examination) passBinding(l *line, f machine.Family) {
	l.pass(CheckBind, f, "this user can tie a socket to %s and %s", l.Interface, l.source[f])
}

// allowBinding: since Linux 5.7 a socket that is tied to no device yet can be tied to one without a privilege. Where that
// fails nevertheless, the kernel is older, or something has tied it already, as 'ip vrf exec' does.
func (e *examination) allowBinding() (commands []string, why string) {
	why = "something around it, such as 'ip vrf exec' or a sandbox, does not allow that; give the program the capability CAP_NET_RAW"
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil && olderThan(unix.ByteSliceToString(name.Release[:]), 5, 7) {
		why = "before Linux 5.7 that takes the capability CAP_NET_RAW; give it to the program"
	}
	program, err := os.Executable()
	if err != nil {
		program = "/usr/bin/dispatch"
	}
	return []string{"setcap cap_net_raw+ep " + quote(program)}, why
}

// olderThan compares a kernel's release, such as 6.1.0-13-amd64.
func olderThan(release string, major, minor int) bool {
	var a, b int
	if n, err := fmt.Sscanf(release, "%d.%d", &a, &b); n < 2 || err != nil {
		return false
	}
	return a < major || a == major && b < minor
}

// quote makes one word of a shell's command out of text.
func quote(text string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-:@%+="
	if text != "" && strings.Trim(text, plain) == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

func setMTU(device string) []string {
	return []string{"ip link set dev " + quote(device) + " mtu 1500"}
}

func (e *examination) examineSystem(*line) {}

// packetsSent is how many packets an interface has ever sent. /proc shows the network namespace of the process's main thread.
func packetsSent(i *net.Interface) (int64, bool) {
	f, err := os.Open("/proc/net/dev")
	if err != nil {
		return 0, false
	}
	defer func() { _ = f.Close() }() // it was only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, numbers, _ := strings.Cut(lines.Text(), ":")
		if strings.TrimSpace(name) != i.Name {
			continue
		}
		// Eight numbers on what was received, then bytes and packets sent (net/core/net-procfs.c).
		fields := strings.Fields(numbers)
		if len(fields) < 10 {
			return 0, false
		}
		sent, err := strconv.ParseInt(fields[9], 10, 64)
		return sent, err == nil
	}
	return 0, false
}

// boundTo asks the kernel what interface the socket is tied to.
func boundTo(conn *net.TCPConn) string {
	raw, err := conn.SyscallConn()
	if err != nil {
		return ""
	}
	device, optionErr := "", error(nil)
	err = raw.Control(func(fd uintptr) {
		device, optionErr = unix.GetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
	})
	if errors.Join(err, optionErr) != nil {
		return ""
	}
	return device
}

// sysctlOf reads an interface's number under /proc/sys/net, such as ipv4/conf/eth0/rp_filter; 0 where it cannot be read.
func sysctlOf(version, device, name string) int {
	text, err := os.ReadFile(filepath.Join("/proc/sys/net", version, "conf", device, name))
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return n
}

// effective is the value that counts for the device: for the settings asked here the larger of its own and that of all.
func effective(device, name string) int {
	return max(sysctlOf("ipv4", "all", name), sysctlOf("ipv4", device, name))
}

// setSysctl is the command that sets such a number. sysctl takes a path with slashes too, and then a dot for a dot.
func setSysctl(device, name string, value int) string {
	return "sysctl -w " + quote(fmt.Sprintf("net/ipv4/conf/%s/%s=%d", device, name, value))
}

// ipFamily is the kernel's number of a family.
func ipFamily(f machine.Family) int {
	if f == machine.IPv4 {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}
