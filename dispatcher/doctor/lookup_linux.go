package doctor

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"dispatch/dispatcher/machine"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// examineRoutes follows a connection that is tied to the line, there and back. connectErr is what connect(2) said.
func (e *examination) examineRoutes(l *line, f machine.Family, connectErr error) {
	there := e.wayOut(l, f, connectErr)
	switch {
	case !there.isDefault(f) && e.explainDiscard(l, f):
		l.broken[f] = true
	case !there.isDefault(f):
		l.broken[f] = true
		l.pass(CheckRules, f, "no rule discards what leaves by it")
		e.explainNoRoute(l, f)
	case e.explainOthersRouter(l, f, there):
		l.broken[f] = true
		l.pass(CheckRules, f, "no rule discards what leaves by it")
	default:
		l.route[f] = machine.DefaultRoute{Family: f, Gateway: there.gateway, Metric: there.metric}
		l.pass(CheckRules, f, "no rule discards what leaves by it")
		l.pass(CheckRoute, f, "%s", describeRoute(there))
		if f == machine.IPv4 {
			e.examineFilter(l, f)
		}
	}
	noteVPN(l, f, e.unboundOwner(f))
}

// wayOut is the default route that the line's sockets find; both halves of the space have to be covered.
func (e *examination) wayOut(l *line, f machine.Family, connectErr error) answer {
	var there answer
	for half, dst := range far(f) {
		a := e.kernel.bound(dst, l.source[f], l.iface.Index)
		if half == 0 || !a.isDefault(f) {
			there = a
		}
		if !a.isDefault(f) || a.bits == 0 {
			break
		}
	}
	// An IPv4 socket that is tied to a device takes all the world for its neighbours where it finds no route, so
	// connect(2) tells nothing. For IPv6 it is the judge.
	if f == machine.IPv6 && connectErr != nil && there.err == nil {
		there.err = connectErr
	}
	return there
}

func describeRoute(a answer) string {
	text := []string{"the default route is"}
	if a.gateway.IsValid() {
		text = append(text, "by", a.gateway.String())
	} else {
		text = append(text, "the link itself")
	}
	if a.metric != 0 {
		text = append(text, "with metric", strconv.Itoa(a.metric))
	}
	switch slot, ours := slotOfTable(a.table); {
	case ours && slot == 0:
		text = append(text, "in the table that 'dispatch doctor --fix' made")
	case ours:
		text = append(text, "in the table of a running 'dispatch start --manage-routes'")
	case a.table != unix.RT_TABLE_MAIN && a.table != 0:
		text = append(text, "in table", strconv.Itoa(a.table))
	}
	return strings.Join(text, " ")
}

// explainNoRoute: an IPv4 connection would wait for an ARP answer of its destination, an IPv6 one fails at once.
func (e *examination) explainNoRoute(l *line, f machine.Family) {
	happens := "connections wait in vain"
	if f == machine.IPv6 {
		happens = "connections fail"
	}
	way, ok := e.kernel.findGateway(e.interfaces, l, f)
	if !ok {
		advice := setUpAgain(l.Interface) + ", or set its router with 'ip route add default via ROUTER dev " + quote(l.Interface) +
			" metric " + strconv.Itoa(e.freeMetric(l, f)) + "'"
		if f == machine.IPv6 && sysctlOf("ipv6", "all", "forwarding") == 1 && sysctlOf("ipv6", l.Interface, "accept_ra") == 1 {
			l.fail(CheckRoute, f, []string{"sysctl -w " + quote("net/ipv6/conf/"+l.Interface+"/accept_ra=2")},
				"%s has no default route, so %s: this machine forwards IPv6 and therefore ignores what routers announce, unless accept_ra is 2", l.Interface, happens)
			return
		}
		l.fail(CheckRoute, f, nil, "%s has no default route, so %s, and its router is not known: %s", l.Interface, happens, advice)
		return
	}
	by := ""
	if way.addr.IsValid() {
		by = " the router is " + way.addr.String() + ", says " + way.origin
	} else {
		by = " " + way.origin
	}
	l.fail(CheckRoute, f, e.policyCommands(l.iface, l.source[f], way), "%s has no default route, so %s;%s", l.Interface, happens, by)
}

// freeMetric returns one that no default route of the family has: the kernel refuses a second route of the same metric. It
// is another for each line, for they may all be in need of one.
func (e *examination) freeMetric(l *line, f machine.Family) int {
	metric := 1000 + slices.Index(e.lines, l)
	for e.hasMetric(metric, f) {
		metric += len(e.lines)
	}
	return metric
}

func (e *examination) hasMetric(metric int, f machine.Family) bool {
	for _, i := range e.interfaces {
		for _, r := range i.DefaultRoutes {
			if r.Family == f && r.Metric == metric {
				return true
			}
		}
	}
	return false
}

// explainOthersRouter finds the router on the source's own network where the route is by one of the interface's other
// networks, which has no reason to let the source through; false where there is none.
func (e *examination) explainOthersRouter(l *line, f machine.Family, there answer) bool {
	if !there.gateway.IsValid() || l.adjoins(f, there.gateway) {
		return false
	}
	way, ok := e.kernel.findGateway(e.interfaces, l, f)
	if !ok || way.addr == there.gateway || !l.adjoins(f, way.addr) {
		return false
	}
	l.fail(CheckRoute, f, e.policyCommands(l.iface, l.source[f], way),
		"connections from %s leave by the router %s of another network; its own network has the router %s, says %s",
		l.source[f], there.gateway, way.addr, way.origin)
	return true
}

// explainDiscard finds the rule that is to blame for a lack of routes; false where there is none. The kernel's own answer
// does not tell: it forgives an IPv4 socket that is tied to a device whatever the rules say, and waits for ARP in vain.
func (e *examination) explainDiscard(l *line, f machine.Family) bool {
	rules, err := e.kernel.rules(f)
	discarding, actErr := discardingRules(f)
	if err = errors.Join(err, actErr); err != nil {
		l.fail(CheckRules, f, nil, "the routing rules cannot be listed: %v", err)
		return true
	}
	for _, r := range rules {
		// What the main table discards is what it has no route for.
		if !ruleMatches(r, l, f) || r.Goto >= 0 || r.Table >= unix.RT_TABLE_DEFAULT && r.Table <= unix.RT_TABLE_LOCAL {
			continue
		}
		if discarding[r.Priority] && r.Table == 0 {
			l.fail(CheckRules, f, []string{ipCommand(f, "rule del "+ruleWords(r))},
				"the routing rule %q discards what leaves by it; remove it, unless it is meant to", ruleWords(r))
			return true
		}
		// A route that discards leaves by no device, so an IPv6 socket that is tied to one passes it by.
		if r.Table == 0 {
			continue
		}
		if discards, err := e.kernel.tableDiscards(f, r.Table); err != nil || !discards || f == machine.IPv6 {
			continue
		}
		var commands []string
		if way, ok := e.kernel.findGateway(e.interfaces, l, f); ok && r.Priority >= firstPriority+perSlot {
			commands = e.policyCommands(l.iface, l.source[f], way)
		}
		l.fail(CheckRules, f, commands, "a route of table %d, which the rule %q leads to, discards what leaves by it", r.Table, ruleWords(r))
		return true
	}
	return false
}

// ruleMatches tells whether the kernel asks the rule for a TCP connection of this user that is tied to the line.
func ruleMatches(r netlink.Rule, l *line, f machine.Family) bool {
	uid := uint32(os.Getuid())
	matches := (r.Src == nil || r.Src.Contains(l.source[f].AsSlice())) &&
		(r.Dst == nil || r.Dst.Contains(far(f)[0].AsSlice())) &&
		(r.IifName == "" || r.IifName == "lo") && (r.OifName == "" || r.OifName == l.Interface) &&
		r.Mark == 0 && (r.IPProto == 0 || r.IPProto == unix.IPPROTO_TCP) && r.Dport == nil && r.Sport == nil &&
		(r.UIDRange == nil || r.UIDRange.Start <= uid && uid <= r.UIDRange.End)
	return matches != r.Invert
}

// tableDiscards tells whether a table has a default route that discards.
func (k *kernel) tableDiscards(f machine.Family, table int) (bool, error) {
	list, err := k.routes(f, netlink.Route{Dst: ipNet(everything(f))}, netlink.RT_FILTER_DST)
	return slices.ContainsFunc(list, func(r netlink.Route) bool {
		return r.Table == table && (r.Type == unix.RTN_BLACKHOLE || r.Type == unix.RTN_UNREACHABLE || r.Type == unix.RTN_PROHIBIT)
	}), err
}

// examineFilter asks the question that rp_filter=1 asks for each packet that comes in (RFC 3704 section 2.2): would one
// to its sender leave by the same interface? There the socket that is tied to the interface does not count.
func (e *examination) examineFilter(l *line, f machine.Family) {
	value := effective(l.Interface, "rp_filter")
	if value != 1 {
		l.pass(CheckFilter, f, "rp_filter is %d, which drops no replies", value)
		return
	}
	for _, dst := range far(f) {
		back := e.kernel.lookUp(dst, l.source[f], 0)
		if back.err == nil && back.index == l.iface.Index {
			continue
		}
		by := "no interface"
		if i := e.byIndex(back.index); i != nil {
			by = i.Name
		}
		l.fail(CheckFilter, f, []string{setSysctl(l.Interface, "rp_filter", 2)},
			"rp_filter is 1 and the kernel would answer by %s, so it drops the replies that come in by %s", by, l.Interface)
		return
	}
	l.pass(CheckFilter, f, "rp_filter is 1, and the routes are such that it drops no replies")
}

// unboundOwner returns the tunnel that connections leave by which are tied to nothing.
func (e *examination) unboundOwner(f machine.Family) *machine.Interface {
	a := e.kernel.lookUp(far(f)[0], netip.Addr{}, 0)
	if i := e.byIndex(a.index); a.err == nil && i != nil && i.Kind == machine.KindTunnel {
		return i
	}
	return nil
}

func (e *examination) byIndex(index int) *machine.Interface {
	for n := range e.interfaces {
		if e.interfaces[n].Index == index {
			return &e.interfaces[n]
		}
	}
	return nil
}

// noteSharedNetwork: two interfaces on one network both answer ARP for each other's addresses unless told otherwise, and
// what comes back by the wrong one never reaches the socket.
func (e *examination) noteSharedNetwork(l *line, f machine.Family, other *machine.Interface, network netip.Prefix) {
	if f == machine.IPv4 && !keepsToItself(l.Interface) || f == machine.IPv4 && !keepsToItself(other.Name) {
		l.fail(CheckNetwork, f, []string{
			setSysctl("all", "arp_ignore", 1), setSysctl("all", "arp_announce", 2),
			// So that it asks for its neighbours anew, by which they learn its link address.
			"ip neigh flush dev " + quote(l.Interface),
		},
			"%s is on the network %s too, and the two answer ARP for each other, so replies come in by the wrong one", other.Name, network)
		return
	}
	mine, others := l.route[f], machine.DefaultRoute{}
	if r, ok := other.DefaultRoute(f); ok {
		others = r
	}
	if mine.Gateway.IsValid() && mine.Gateway == others.Gateway {
		l.warn(CheckNetwork, f, nil, "%s is on the network %s too, with the same router: the two share one connection to the internet", other.Name, network)
		return
	}
	l.warn(CheckNetwork, f, nil, "%s is on the network %s too", other.Name, network)
}

// keepsToItself: arp_ignore answers only for the interface's own addresses, arp_filter only where the kernel would
// send by that interface.
func keepsToItself(device string) bool {
	return effective(device, "arp_ignore") > 0 || effective(device, "arp_filter") > 0
}
