package doctor

import (
	"errors"
	"net"
	"strconv"
	"unsafe"

	"dispatch/dispatcher/machine"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// system is what an examination knows of Windows.
type system struct {
	// minimize is the policy "Minimize the number of simultaneous connections to the Internet or a Windows Domain";
	// minimizeErr says why it is not known.
	minimize    uint64
	minimizeErr error
}

// Where the policy is kept, and what it means: 0 allows any number, 1 makes no new ones where a better one is
// there, 2 cuts the worse ones softly, 3 forbids Wi-Fi beside Ethernet. Where it is not set, Windows does as with 1.
const (
	policyKey   = `SOFTWARE\Policies\Microsoft\Windows\WcmSvc\GroupPolicy`
	policyValue = "fMinimizeConnections"
	policyUnset = 1
)

func (s *system) open() error {
	s.minimize, s.minimizeErr = readPolicy()
	return nil
}

// routedByInterface: a socket that is tied to an interface leaves by that interface's own default route.
const routedByInterface = true

func readPolicy() (value uint64, err error) {
	key, err := registry.OpenKey(registry.LOCAL_MACHINE, policyKey, registry.QUERY_VALUE)
	if errors.Is(err, registry.ErrNotExist) {
		return policyUnset, nil
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, key.Close()) }()
	value, _, err = key.GetIntegerValue(policyValue)
	if errors.Is(err, registry.ErrNotExist) {
		return policyUnset, nil
	}
	return value, err
}

// examineSystem looks at what Windows alone has: metrics of interfaces, and a service that cuts second lines off.
func (e *examination) examineSystem(l *line) {
	e.examinePolicy(l)
	for _, f := range families {
		if l.source[f].IsValid() {
			examineMetric(e, l, f)
		}
	}
}

func (e *examination) examinePolicy(l *line) {
	command := []string{`reg add "HKLM\` + policyKey + `" /v ` + policyValue + ` /t REG_DWORD /d 0 /f`}
	wireless := l.iface.Kind == machine.KindWiFi || l.iface.Kind == machine.KindMobile
	switch {
	case e.minimizeErr != nil:
		l.warn(CheckPolicy, 0, nil, "whether Windows cuts second lines off cannot be read: %v", e.minimizeErr)
	case e.minimize == 0:
		l.pass(CheckPolicy, 0, "Windows is told to allow several connections at a time")
	case wireless && e.minimize >= 2:
		l.fail(CheckPolicy, 0, command, "the policy %s is %d, so Windows cuts %s off when there is Ethernet", policyValue, e.minimize, l.Interface)
	case wireless:
		l.warn(CheckPolicy, 0, command, "Windows may refuse to join a network by %s while there is Ethernet, unless the policy %s is 0", l.Interface, policyValue)
	default:
		l.pass(CheckPolicy, 0, "the policy %s concerns wireless lines only", policyValue)
	}
}

// examineMetric: connections that are tied to an interface do not ask for metrics, but all others on this machine do.
func examineMetric(e *examination, l *line, f machine.Family) {
	row := windows.MibIpInterfaceRow{Family: windows.AF_INET, InterfaceIndex: uint32(l.iface.Index)}
	if f == machine.IPv6 {
		row.Family = windows.AF_INET6
	}
	if err := readInterfaceRow(&row); err != nil {
		l.warn(CheckMetric, f, nil, "the interface's metric cannot be read: %v", err)
		return
	}
	kind := "set by hand"
	if row.UseAutomaticMetric != 0 {
		kind = "automatic"
	}
	r, routed := l.route[f]
	for _, other := range e.lines {
		theirs, ok := machine.DefaultRoute{}, false
		if other != l && other.iface != nil && other.iface.Index != l.iface.Index {
			theirs, ok = ownDefaultRoute(other, f)
		}
		if routed && ok && theirs.Metric == r.Metric {
			l.warn(CheckMetric, f, []string{setMetric(l.Interface, f, int(row.Metric)+5)},
				"its metric %d is that of %s, so which of them other programs use is left to chance", r.Metric, other.Interface)
			return
		}
	}
	l.pass(CheckMetric, f, "the interface's metric is %d, %s", row.Metric, kind)
}

// readInterfaceRow does not take the call for granted, as the library does: it would panic where Wine stands in for Windows.
func readInterfaceRow(row *windows.MibIpInterfaceRow) error {
	if err := windows.NewLazySystemDLL("iphlpapi.dll").NewProc("GetIpInterfaceEntry").Find(); err != nil {
		return err
	}
	return windows.GetIpInterfaceEntry(row)
}

func setMetric(name string, f machine.Family, metric int) string {
	return "netsh interface " + f.String() + " set interface " + quote(name) + " metric=" + strconv.Itoa(metric)
}

// missingRoute asks DHCP for a router; where addresses are set by hand, the router has to be as well.
func missingRoute(l *line, f machine.Family) ([]string, string) {
	commands := renew(l.Interface)
	if f == machine.IPv6 {
		commands = []string{"ipconfig /renew6 " + quote(l.Interface)}
	}
	return commands, "its router is missing; where its address was set by hand, set the router too, with 'netsh interface " +
		f.String() + " add route " + everything(f) + " \"" + l.Interface + "\" ROUTER'"
}

func everything(f machine.Family) string {
	if f == machine.IPv4 {
		return "0.0.0.0/0"
	}
	return "::/0"
}

func renew(name string) []string { return []string{"ipconfig /renew " + quote(name)} }

func switchOn(name string) []string {
	return []string{"netsh interface set interface name=" + quote(name) + " admin=enabled"}
}

func setMTU(name string) []string {
	return []string{"netsh interface ipv4 set subinterface " + quote(name) + " mtu=1500 store=persistent"}
}

// quote: an interface's name cannot have quotes in it.
func quote(name string) string { return `"` + name + `"` }

func (e *examination) passBinding(l *line, f machine.Family) {
	l.pass(CheckBind, f, "a socket can be tied to %s and %s", l.Interface, l.source[f])
}

func (e *examination) allowBinding() (commands []string, why string) {
	return nil, "a firewall or a security program does not allow it"
}

// packetsSent is how many unicast packets an interface has ever sent.
func packetsSent(i *net.Interface) (int64, bool) {
	row := windows.MibIfRow2{InterfaceIndex: uint32(i.Index)}
	if err := windows.GetIfEntry2Ex(windows.MibIfEntryNormal, &row); err != nil {
		return 0, false
	}
	return int64(row.OutUcastPkts), true
}

// boundTo asks for IP_UNICAST_IF or IPV6_UNICAST_IF; the first holds its index in network byte order.
func boundTo(conn *net.TCPConn) string {
	raw, err := conn.SyscallConn()
	if err != nil {
		return ""
	}
	const unicastIf = 31
	level := int32(windows.IPPROTO_IPV6)
	local, isTCP := conn.LocalAddr().(*net.TCPAddr)
	if !isTCP {
		return ""
	}
	if local.IP.To4() != nil {
		level = windows.IPPROTO_IP
	}
	var value [4]byte
	size, optionErr := int32(len(value)), error(nil)
	err = raw.Control(func(fd uintptr) {
		optionErr = windows.Getsockopt(windows.Handle(fd), level, unicastIf, &value[0], &size)
	})
	if errors.Join(err, optionErr) != nil {
		return ""
	}
	index := int(value[3]) | int(value[2])<<8 | int(value[1])<<16 | int(value[0])<<24
	if level == windows.IPPROTO_IPV6 {
		index = int(*(*uint32)(unsafe.Pointer(&value)))
	}
	i, err := net.InterfaceByIndex(index)
	if err != nil {
		return ""
	}
	return i.Name
}
