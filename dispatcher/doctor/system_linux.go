package doctor

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/policyroutes"

	"golang.org/x/sys/unix"
)

// system: Linux is asked anew for each line.
type system struct{}

func (system) open() error { return nil }

// isPort tells whether the interface is a port of a bridge, a bond or their like, and so no line by itself.
func isPort(name string) bool {
	_, err := os.Stat(filepath.Join("/sys/class/net", name, "master"))
	return err == nil
}

// raise switches a link on.
func (e *examination) raise(l *line) []string {
	return []string{"ip link set dev " + quote(l.Interface) + " up"}
}

// afterwards says what raise cannot do: the kernel has forgotten the routes, and perhaps the IPv6 addresses, with the link.
func (e *examination) afterwards(l *line) string {
	return "; once it is on, " + setUpAgain(l.Interface) + " unless its addresses and routes come back by themselves"
}

// readdress: who gives out addresses here is not ours to guess.
func (e *examination) readdress(l *line) (commands []string, advice string) {
	return nil, "; " + setUpAgain(l.Interface) + ", or give it its address with 'ip addr add ADDRESS/LENGTH dev " + quote(l.Interface) + "'"
}

// setUpAgain names the tools that set an interface up, whichever of them looks after this one.
func setUpAgain(device string) string {
	d := quote(device)
	return "have it set up again with 'networkctl reconfigure " + d + "', 'nmcli device connect " + d + "' or your DHCP client"
}

func (e *examination) passBinding(l *line, f machine.Family) {
	l.pass(CheckBind, f, "this user can tie a socket to %s and %s", l.Interface, l.source[f])
}

// allowBinding: since Linux 5.7 a socket that is tied to no device yet can be tied to one without a privilege. Where that
// fails nevertheless, the kernel is older, or something has tied it already.
func (e *examination) allowBinding() (commands []string, why string) {
	program, err := os.Executable()
	if err != nil {
		program = "/usr/bin/dispatch"
	}
	return []string{"setcap cap_net_raw+ep " + quote(program)},
		"a Linux before 5.7, 'ip vrf exec' or a sandbox does not allow that; give the program the capability CAP_NET_RAW"
}

func quote(text string) string { return policyroutes.Quote(text) }

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
