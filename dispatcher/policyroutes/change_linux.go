package policyroutes

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"dispatch/dispatcher/machine"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Change is a set of routes and rules to be removed and installed. Close it after use.
type Change struct {
	// Commands are what ip(8) would be told to do the same, in order.
	Commands []string
	// Missing are the lines that no route can be installed for.
	Missing []Missing

	kernel   *kernel
	policies int // that it is to see installed
	steps    []step
	// unowned: it removes what a process has installed, so no process may live that does so while it is made.
	unowned bool
}

type step struct {
	carryOut func(*netlink.Handle) error
	of       *policy // that it is a part of; nil where something is removed
}

// Make carries the change out. What cannot be removed ends it; a line's route that cannot be installed leaves out just that
// line's, and is told in the end. To make the change again is harmless.
func (c *Change) Make() (err error) {
	if c.unowned {
		own, lockErr := takeLock()
		if lockErr != nil {
			return fmt.Errorf("%w; try again", lockErr)
		}
		defer func() { err = errors.Join(err, own.release()) }()
	}
	return c.make()
}

func (c *Change) make() error {
	var failed policyErrors
	for n, s := range c.steps {
		if s.of != nil && failed.tell(s.of) {
			continue // without its route its rules lead nowhere
		}
		switch err := s.carryOut(c.kernel.nl); {
		case err == nil:
		case s.of == nil:
			return fmt.Errorf("%s: %w", c.Commands[n], err)
		default:
			failed = append(failed, &policyError{s.of, fmt.Errorf("%s: %w", c.Commands[n], err)})
		}
	}
	if len(failed) > 0 {
		return failed
	}
	return nil
}

// policyError says why a policy could not be installed.
type policyError struct {
	of  *policy
	err error
}

func (e *policyError) Error() string { return e.err.Error() }

func (e *policyError) Unwrap() error { return e.err }

// policyErrors are those of several, on one line.
type policyErrors []*policyError

func (e policyErrors) Error() string {
	texts := make([]string, len(e))
	for n, err := range e {
		texts[n] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (e policyErrors) Unwrap() []error {
	errs := make([]error, len(e))
	for n, err := range e {
		errs[n] = err
	}
	return errs
}

func (e policyErrors) tell(of *policy) bool {
	return slices.ContainsFunc(e, func(x *policyError) bool { return x.of == of })
}

// Close lets go of what the change holds.
func (c *Change) Close() error {
	c.kernel.close()
	return nil
}

func (c *Change) add(of *policy, command string, carryOut func(*netlink.Handle) error) {
	c.Commands = append(c.Commands, command)
	c.steps = append(c.steps, step{carryOut, of})
}

// installed is what is there of ours.
type installed struct {
	rules  []netlink.Rule
	routes []netlink.Route
}

// ownedBy tells whether any of it is the owner's.
func (i installed) ownedBy(o owner) bool {
	return slices.ContainsFunc(i.rules, rulesOf(o)) || slices.ContainsFunc(i.routes, routesOf(o))
}

func rulesOf(o owner) func(netlink.Rule) bool {
	return func(r netlink.Rule) bool {
		of, ours := ownerOf(r)
		return ours && of == o
	}
}

func routesOf(o owner) func(netlink.Route) bool {
	return func(r netlink.Route) bool {
		of, ours := ownerOfTable(r.Table)
		return ours && of == o
	}
}

func (k *kernel) installed() (has installed, err error) {
	for _, f := range families {
		rules, err := k.rules(f)
		if err != nil {
			return has, err
		}
		for _, r := range rules {
			if _, ours := ownerOf(r); ours {
				has.rules = append(has.rules, r)
			}
		}
		routes, err := k.routes(f, netlink.Route{Protocol: protocol}, netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			return has, err
		}
		for _, r := range routes {
			if _, ours := ownerOfTable(r.Table); ours {
				has.routes = append(has.routes, r)
			}
		}
	}
	return has, nil
}

// assign gives each policy a table of its own: the one it has, or the first that no rule for another source leads to.
// doomed says which rules will go.
func (i installed) assign(policies []policy, doomed func(netlink.Rule) bool) {
	type place struct {
		family machine.Family
		table  int
	}
	taken := make(map[place]netip.Addr)
	for _, r := range i.rules {
		if r.Table >= tableBase && !doomed(r) {
			taken[place{familyOf(r.Family), r.Table}] = sourceOf(r)
		}
	}
	for n := range policies {
		p := &policies[n]
		for _, r := range i.rules {
			if v := (r.Table - tableBase) / tablesPerOwner / int(owners); r.Table >= tableBase && sourceOf(r) == p.source {
				if had := (policy{owner: p.owner, variant: v, index: p.index}); had.table() == r.Table {
					p.variant = v
				}
			}
		}
		for v := range variants {
			if by, ok := taken[place{p.family(), p.table()}]; !ok || by == p.source {
				break
			}
			p.variant = v
		}
		taken[place{p.family(), p.table()}] = p.source
	}
}

// reconcile plans the steps from what is there to what the policies say. Of what is there, only what doomed says is
// ever removed. Rules go before the routes they lead to, and come after them.
func (c *Change) reconcile(has installed, policies []policy, doomedRule func(netlink.Rule) bool, doomedRoute func(netlink.Route) bool) {
	wantedRules, wantedRoutes := make(map[string]bool), make(map[string]bool)
	for _, p := range policies {
		for _, r := range p.rules() {
			wantedRules[ruleKey(r)] = true
		}
		for _, r := range p.routes() {
			wantedRoutes[routeKey(r)] = true
		}
	}
	has.rules = slices.DeleteFunc(has.rules, func(r netlink.Rule) bool {
		if wantedRules[ruleKey(r)] || !doomedRule(r) {
			return false
		}
		c.add(nil, ipCommand(familyOf(r.Family), "rule del "+ruleWords(r)), func(nl *netlink.Handle) error {
			return unless(unix.ENOENT, nl.RuleDel(&r))
		})
		return true
	})
	has.routes = slices.DeleteFunc(has.routes, func(r netlink.Route) bool {
		if wantedRoutes[routeKey(r)] || !doomedRoute(r) {
			return false
		}
		c.add(nil, ipCommand(familyOf(r.Family), "route del "+routeWords(r, deviceName(c.kernel, r.LinkIndex))), func(nl *netlink.Handle) error {
			return unless(unix.ESRCH, nl.RouteDel(&r))
		})
		return true
	})
	for _, p := range policies {
		c.install(has, p)
	}
}

// install plans what of a policy is not there.
func (c *Change) install(has installed, p policy) {
	for _, r := range p.routes() {
		if !slices.ContainsFunc(has.routes, func(h netlink.Route) bool { return routeKey(h) == routeKey(r) }) {
			c.add(&p, ipCommand(p.family(), "route replace "+routeWords(r, p.device)), func(nl *netlink.Handle) error {
				return nl.RouteReplace(&r)
			})
		}
	}
	for _, r := range p.rules() {
		if !slices.ContainsFunc(has.rules, func(h netlink.Rule) bool { return ruleKey(h) == ruleKey(r) }) {
			c.add(&p, ipCommand(p.family(), "rule add "+ruleWords(r)), func(nl *netlink.Handle) error {
				return unless(unix.EEXIST, nl.RuleAdd(&r))
			})
		}
	}
}

// unless forgives the one error that says that the step is done already.
func unless(done unix.Errno, err error) error {
	if errors.Is(err, done) {
		return nil
	}
	return err
}

// ruleKey and routeKey tell whether two are the same, in what this program sets of them.
func ruleKey(r netlink.Rule) string { return ipCommand(familyOf(r.Family), ruleWords(r)) }

func routeKey(r netlink.Route) string {
	if r.Dst == nil {
		r.Dst = ipNet(everything(familyOf(r.Family)))
	}
	r.Flags &= int(netlink.FLAG_ONLINK)
	return fmt.Sprintf("%d %s", r.LinkIndex, ipCommand(familyOf(r.Family), routeWords(r, "")))
}

// deviceName is for the eyes of a user only: a device that has just gone is named by its number.
func deviceName(k *kernel, index int) string {
	link, err := k.nl.LinkByIndex(index)
	if err != nil {
		return "if" + strconv.Itoa(index)
	}
	return link.Attrs().Name
}
