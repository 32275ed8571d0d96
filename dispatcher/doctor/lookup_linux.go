package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/policyroutes"

	"golang.org/x/sys/unix"
)

// examineRoutes follows a connection that is tied to the line, there and back. connectErr is what connect(2) said.
func (e *examination) examineRoutes(l *line, f machine.Family, connectErr error) {
	there, err := wayOut(l, f, connectErr)
	switch {
	case err != nil && e.explainRules(l, f, err):
		l.broken[f] = true
	case err != nil:
		l.broken[f] = true
		l.pass(CheckRules, f, "no rule is in the way of its default route")
		e.explainNoRoute(l, f, err)
	case e.explainOthersRouter(l, f, there):
		l.broken[f] = true
		l.pass(CheckRules, f, "no rule is in the way of its default route")
	default:
		l.route[f] = machine.DefaultRoute{Family: f, Router: there.Router, Metric: there.Metric}
		l.pass(CheckRules, f, "no rule is in the way of its default route")
		l.pass(CheckRoute, f, "%s", describeRoute(there))
		if f == machine.IPv4 {
			e.examineFilter(l, f)
		}
	}
	noteVPN(l, f, e.unboundOwner(f))
}

// wayOut is the default route that the line's sockets find; both halves of the space have to be covered.
func wayOut(l *line, f machine.Family, connectErr error) (way machine.Path, err error) {
	for half, dst := range machine.Far(f) {
		p, err := machine.Lookup(dst, l.iface.Index, l.source[f])
		if err == nil && !p.IsDefault() {
			err = fmt.Errorf("the route to %s is for %s only", dst, p.To)
		}
		if err != nil {
			return way, err
		}
		if half == 0 {
			way = p
		}
	}
	// An IPv4 socket that is tied to a device takes all the world for its neighbours where it finds no route, so
	// connect(2) tells nothing. For IPv6 it is the judge.
	if f == machine.IPv6 {
		err = connectErr
	}
	return way, err
}

func describeRoute(p machine.Path) string {
	text := []string{"the default route is"}
	if p.Router.IsValid() {
		text = append(text, "by", p.Router.String())
	} else {
		text = append(text, "the link itself")
	}
	if p.Metric != 0 {
		text = append(text, "with metric", strconv.Itoa(p.Metric))
	}
	switch whose := policyroutes.TableOf(p.Table); {
	case whose != "":
		text = append(text, "in the table of", whose)
	case p.Table != unix.RT_TABLE_MAIN && p.Table != 0:
		text = append(text, "in table", strconv.Itoa(p.Table))
	}
	return strings.Join(text, " ")
}

// explainNoRoute: an IPv4 connection would wait for an ARP answer of its destination, an IPv6 one fails at once.
func (e *examination) explainNoRoute(l *line, f machine.Family, lookupErr error) {
	happens := "connections wait in vain"
	if f == machine.IPv6 {
		happens = "connections fail"
	}
	by, commands, ok := e.router(l, f)
	if !ok {
		if f == machine.IPv6 && sysctlOf("ipv6", "all", "forwarding") == 1 && sysctlOf("ipv6", l.Interface, "accept_ra") == 1 {
			l.fail(CheckRoute, f, []string{"sysctl -w " + quote("net/ipv6/conf/"+l.Interface+"/accept_ra=2")},
				"%s has no default route, so %s: this machine forwards IPv6 and therefore ignores what routers announce, unless accept_ra is 2", l.Interface, happens)
			return
		}
		l.fail(CheckRoute, f, nil, "%s has no default route, so %s, and its router is not known: %s, or set its router with 'ip route add default via ROUTER dev %s metric %d'",
			l.Interface, happens, setUpAgain(l.Interface), quote(l.Interface), e.freeMetric(l, f))
		return
	}
	where := " " + by.Origin
	if by.Addr.IsValid() {
		where = " the router is " + by.Addr.String() + ", says " + by.Origin
	}
	l.fail(CheckRoute, f, commands, "%s has no default route, so %s (%v);%s", l.Interface, happens, lookupErr, where)
}

// router finds the line's router, and the commands that make a policy route by it.
func (e *examination) router(l *line, f machine.Family) (by policyroutes.Router, commands []string, ok bool) {
	by, ok, err := policyroutes.FindRouter(e.interfaces, l.iface, l.source[f])
	if err == nil && ok {
		commands, err = policyroutes.Commands(e.interfaces, l.iface, l.source[f], by)
	}
	return by, commands, ok && err == nil
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
func (e *examination) explainOthersRouter(l *line, f machine.Family, there machine.Path) bool {
	if !there.Router.IsValid() || l.iface.Adjoins(l.source[f], there.Router) {
		return false
	}
	by, commands, ok := e.router(l, f)
	if !ok || by.Addr == there.Router || !l.iface.Adjoins(l.source[f], by.Addr) {
		return false
	}
	l.fail(CheckRoute, f, commands, "connections from %s leave by the router %s of another network; its own network has the router %s, says %s",
		l.source[f], there.Router, by.Addr, by.Origin)
	return true
}

// explainRules shows the rules where the look-up fails although a table that all sockets are led to has the line's default
// route; false where there is none of either. The kernel does not say which rule it was.
func (e *examination) explainRules(l *line, f machine.Family, lookupErr error) bool {
	by, commands, ok := e.router(l, f)
	if !ok || by.Table != unix.RT_TABLE_MAIN && policyroutes.TableOf(by.Table) == "" {
		return false
	}
	rules, err := policyroutes.ForeignRules(l.Interface, l.source[f])
	if err != nil {
		l.fail(CheckRules, f, nil, "%v", err)
		return true
	}
	if len(rules) == 0 {
		return false
	}
	texts := make([]string, len(rules))
	first := false // a rule comes before those that the commands would add
	for n, r := range rules {
		texts[n] = "'" + r.Text + "'"
		first = first || r.First
	}
	advice := ""
	switch {
	case len(rules) == 1 && !rules[0].Leads:
		commands, advice = []string{rules[0].Delete}, "; remove it, unless it is meant to discard"
	case first:
		commands, advice = nil, "; look at what they lead to"
	}
	l.fail(CheckRules, f, commands, "it has the default route by %s, but it is not found (%v); in its way are the rules %s%s",
		by.Addr, lookupErr, strings.Join(texts, ", "), advice)
	return true
}

// examineFilter asks the question that rp_filter=1 asks for each packet that comes in (RFC 3704 section 2.2): would one
// to its sender leave by the same interface? There the socket that is tied to the interface does not count.
func (e *examination) examineFilter(l *line, f machine.Family) {
	value := effective(l.Interface, "rp_filter")
	if value != 1 {
		l.pass(CheckFilter, f, "rp_filter is %d, which drops no replies", value)
		return
	}
	for _, dst := range machine.Far(f) {
		back, err := machine.Lookup(dst, 0, l.source[f])
		if err == nil && back.Device == l.iface.Index {
			continue
		}
		by := "no interface"
		if i := e.byIndex(back.Device); i != nil {
			by = i.Name
		}
		l.fail(CheckFilter, f, []string{setSysctl(l.Interface, "rp_filter", 2)},
			"rp_filter is 1 and the kernel would answer by %s, so it drops the replies that come in by %s", by, l.Interface)
		return
	}
	l.pass(CheckFilter, f, "rp_filter is 1, and the routes are such that it drops no replies")
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
	if mine.Router.IsValid() && mine.Router == others.Router {
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
