package doctor_test

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"dispatch/dispatcher/doctor"
	"dispatch/testdata/netlab"
	"dispatch/testdata/routing"
)

func of(l doctor.Line, c doctor.Check) []doctor.Finding {
	return slices.DeleteFunc(slices.Clone(l.Findings), func(f doctor.Finding) bool { return f.Check != c })
}

func TestTargetsAndTheWayToThem(t *testing.T) {
	lab := netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{{}, {}, {NoIPv6: true}}})
	server := lab.EchoPeer(t, netip.AddrPortFrom(lab.Server4, 0))
	web := lab.EchoPeerHTTP(t, netip.AddrPortFrom(lab.Server6, 0))
	web4 := lab.EchoPeerHTTP(t, netip.AddrPortFrom(lab.Server4, 0))
	target := doctor.Target{Host: server.Addr().String(), Port: server.Port()}
	report := routing.Examine(t, doctor.Options{Targets: []doctor.Target{target}, EchoURL: "http://" + web.String() + "/ip"}, "wan1", "wan2", "wan3")
	for n, source := range []string{"198.51.100.2", "203.0.113.2", "100.64.2.2"} {
		l := report.Lines[n]
		found := of(l, doctor.CheckTarget)
		if len(found) != 1 || found[0].Status != doctor.Pass || found[0].Family != "ipv4" {
			t.Fatalf("%s: %+v", l.Uplink, found)
		}
		p := found[0].Passage
		if p.BoundTo != l.Uplink || !strings.HasPrefix(p.Source, source+":") || p.Destination != server.String() || p.Target != target.String() {
			t.Errorf("%s: %+v", l.Uplink, p)
		}
		// SYN and ACK, at least.
		if p.Sent < 2 || p.ConnectMS <= 0 || p.ConnectMS > 5000 {
			t.Errorf("%s: %d packets in %.3f ms", l.Uplink, p.Sent, p.ConnectMS)
		}
		peers := of(l, doctor.CheckPeer)
		if n == 2 {
			if len(peers) != 0 {
				t.Errorf("%s has no IPv6, and yet: %+v", l.Uplink, peers)
			}
			continue
		}
		if len(peers) != 1 || peers[0].Status != doctor.Pass || peers[0].Family != "ipv6" {
			t.Fatalf("%s: %+v", l.Uplink, peers)
		}
		if p := peers[0].Passage; p.Peer != []string{"2001:db8:1::2", "2001:db8:2::2"}[n] || p.BoundTo != l.Uplink || p.Sent < 3 {
			t.Errorf("%s: %+v", l.Uplink, p)
		}
	}
	if !report.Usable {
		t.Error("not usable")
	}

	// A target that is not there, and an address that two lines share.
	lab.SilenceAll(1, true)
	gone := doctor.Target{Host: lab.Server4.String(), Port: 1}
	report = routing.Examine(t, doctor.Options{
		Targets: []doctor.Target{gone, target}, EchoURL: "http://" + web4.String(), Timeout: 300 * time.Millisecond, RouterTimeout: -1,
	}, "wan1", "wan2")
	for n, words := range [][]string{{"refused", "connected"}, {"timeout", "timeout"}} {
		for m, f := range of(report.Lines[n], doctor.CheckTarget) {
			if !strings.Contains(f.Text, words[m]) {
				t.Errorf("line %d, target %d: %s", n, m, f.Text)
			}
		}
	}
	if peers := of(report.Lines[1], doctor.CheckPeer); len(peers) != 1 || peers[0].Status != doctor.Fail || report.Usable {
		t.Errorf("%+v", peers)
	}
}

func TestLinesThatWereNotChosen(t *testing.T) {
	netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{only4, {NoIPv6: true, NoDefault4: true}}})
	secondLine(t, 2)
	routing.Run(t, "sysctl -qw net/ipv4/conf/all/arp_ignore=1")
	report, err := doctor.Examine(t.Context(), nil, doctor.Options{RouterTimeout: -1})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range report.Lines {
		text := l.Uplink + " chosen"
		if !l.Chosen {
			text = l.Uplink + " " + l.Reason
		}
		got = append(got, text)
	}
	// wan2 is a veth without a default route, as containers have them by the dozen.
	if strings.Join(got, ", ") != "wan1 chosen, lan2 no default route" {
		t.Errorf("examined: %v", got)
	}
	if !report.Usable || report.Lines[1].Usable {
		t.Errorf("the choice is usable: %v, the rest: %v", report.Usable, report.Lines[1].Usable)
	}
}

// A line of both families that has lost its IPv4 address works still, but for half of the world.
func TestLineThatHasLostIPv4(t *testing.T) {
	lab := netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{{}, {}}})
	lab.DelAddr(1, lab.Uplink(1).IPv4.Addr())
	report := routing.Examine(t, doctor.Options{RouterTimeout: -1}, "wan1", "wan2")
	if got := notPassed(report.Lines[1]); !report.Usable || len(notPassed(report.Lines[0])) > 0 || strings.Join(got, " ") != "source/ipv4/warn" {
		t.Errorf("usable: %v, found %v and %v", report.Usable, notPassed(report.Lines[0]), got)
	}
	// Where no line has any, that is how this network is.
	lab.DelAddr(0, lab.Uplink(0).IPv4.Addr())
	if got := notPassed(routing.Examine(t, doctor.Options{RouterTimeout: -1}, "wan1", "wan2").Lines[1]); len(got) > 0 {
		t.Errorf("found %v on IPv6 alone", got)
	}
}

// The commands that set default routes do not contradict each other, or what there is.
func TestDefaultRoutesOfDifferentMetrics(t *testing.T) {
	none := netlab.Uplink{NoIPv6: true, NoDefault4: true}
	lab := netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{none, none, {NoIPv6: true, Metric: 1001}}})
	server := lab.EchoPeer(t, netip.AddrPortFrom(lab.Server4, 0))
	report := routing.Examine(t, doctor.Options{RouterTimeout: -1}, "wan1", "wan2", "wan3")
	for n := range 2 {
		routes := of(report.Lines[n], doctor.CheckRoute)
		if len(routes) != 1 || routes[0].Status != doctor.Fail {
			t.Fatalf("%+v", routes)
		}
		_, command, _ := strings.Cut(routes[0].Text, "set its router with '")
		command, _, _ = strings.Cut(command, "'")
		routing.Run(t, strings.Replace(command, "ROUTER", lab.Uplink(n).Gateway4.String(), 1))
		reaches(t, lab.Uplink(n).Name, server, lab.Uplink(n).IPv4.Addr().String())
	}
}

// What the kernel has learned a while ago is not told as if it were so now.
func TestRouterThatHasJustDied(t *testing.T) {
	lab := netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{only4}})
	server := lab.EchoPeer(t, netip.AddrPortFrom(lab.Server4, 0))
	reaches(t, "wan1", server, "198.51.100.2")
	for silent, want := range map[bool]string{false: "the router 198.51.100.1 answers", true: "the router 198.51.100.1 has answered within the last minute"} {
		lab.SilenceAll(0, silent)
		report, err := doctor.Examine(t.Context(), routing.Specs(t, "wan1"), doctor.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range report.Lines[0].Findings {
			if f.Check == doctor.CheckRouter && f.Text != want {
				t.Errorf("silent is %v: %q, want %q", silent, f.Text, want)
			}
		}
	}
}

func TestQuickIsQuickAndAsksNobody(t *testing.T) {
	lab := netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{{}, {NoDefault4: true}, {RPFilter: 1}, {}}})
	lab.SilenceAll(3, true)
	names := routing.Specs(t, "wan1", "wan2", "wan3", "wan4", "nothing0")
	var times []time.Duration
	for range 5 {
		begun := time.Now()
		lines, err := doctor.Quick(t.Context(), names)
		times = append(times, time.Since(begun))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range lines {
			got = append(got, l.Uplink+" "+strings.Join(notPassed(l), ","))
		}
		const want = "wan2 default_route/ipv4/fail; wan3 rp_filter/ipv4/fail; nothing0 interface//fail"
		if strings.Join(got, "; ") != want {
			t.Errorf("found %v, not %s", got, want)
		}
	}
	if best := slices.Min(times); best > 200*time.Millisecond {
		t.Errorf("took %v", times)
	}
	t.Logf("5 uplinks: %v", times)
	// That wan4's router is silent can only be known by asking it.
	if neighbours := output(t, "ip neigh show dev wan4"); neighbours != "" {
		t.Errorf("the router was asked: %s", neighbours)
	}
	if lines, err := doctor.Quick(t.Context(), nil); err != nil || len(lines) != 0 {
		t.Errorf("no uplinks: %v, %v", lines, err)
	}
}

// A login page that a network puts in the way is no answer, and nobody is contacted whom it names.
func TestEchoIsNotRedirected(t *testing.T) {
	lab := netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{only4}})
	listener := lab.Listen(t, netip.AddrPortFrom(lab.Server4, 0))
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.RedirectHandler("http://192.0.2.1/login", http.StatusFound)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	report := routing.Examine(t, doctor.Options{EchoURL: "http://" + listener.Addr().String()}, "wan1")
	found := of(report.Lines[0], doctor.CheckPeer)
	if len(found) != 1 || found[0].Status != doctor.Fail || !strings.Contains(found[0].Text, "http://192.0.2.1/login") {
		t.Errorf("%+v", found)
	}
}

// Which rule it was the kernel does not say: with several, all are named, and none is to be removed.
func TestRulesInTheWayAreNamed(t *testing.T) {
	netlab.New(t, netlab.Config{Uplinks: []netlab.Uplink{only4, only4}})
	rules := []string{"pref 400 from 203.0.113.0/24 prohibit", "pref 401 to 10.0.0.0/8 lookup 77", "pref 402 fwmark 7 lookup 78", "pref 403 oif wan1 lookup 79"}
	for _, r := range rules {
		routing.Run(t, "ip rule add "+r)
		t.Cleanup(func() { routing.Run(t, "ip rule del "+r) })
	}
	found := of(routing.Examine(t, doctor.Options{RouterTimeout: -1}, "wan2").Lines[0], doctor.CheckRules)
	if len(found) != 1 || found[0].Status != doctor.Fail || len(found[0].Commands) > 0 {
		t.Fatalf("%+v", found)
	}
	for _, part := range []string{
		"it has the default route by 203.0.113.1", "look up the route to 126.255.255.254 from 203.0.113.2 by interface ", "no route to host",
		"are the rules 'pref 400 from 203.0.113.0/24', 'pref 401 from all to 10.0.0.0/8 lookup 77'; look at",
	} {
		if !strings.Contains(found[0].Text, part) {
			t.Errorf("%q is not in: %s", part, found[0].Text)
		}
	}
}
