// Package doctor examines the lines out of the machine and says, for each that does not work, why not and with which
// commands it is mended.
//
// An examination changes nothing and needs no privilege. The only hosts it sends anything to are the lines' own
// routers, and the targets and the echo URL that its caller names.
package doctor

import (
	"context"
	"time"

	"dispatch/dispatcher/uplink"
)

// Status is how a finding stands.
type Status string

// The three of them. A line with a Fail does not work, or not always.
const (
	Pass Status = "pass"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Check names what was looked at; the names are a promise to programs.
type Check string

// The checks, in the order of a report.
const (
	CheckInterface Check = "interface"      // it exists and is switched on
	CheckCarrier   Check = "carrier"        // there is something at the other end of the link
	CheckSource    Check = "source"         // it has an address that connections can leave from
	CheckBind      Check = "bind"           // a socket can be tied to it, by this user
	CheckRoute     Check = "default_route"  // a socket tied to it finds a default route
	CheckRules     Check = "rules"          // no routing rule discards what leaves by it
	CheckFilter    Check = "rp_filter"      // the kernel does not drop the replies
	CheckRouter    Check = "gateway"        // the router at the other end is alive
	CheckVPN       Check = "vpn"            // no VPN owns the default route
	CheckNetwork   Check = "shared_network" // no other interface is on the same network
	CheckDuplicate Check = "duplicate"      // it is named once
	CheckMTU       Check = "mtu"
	CheckMetric    Check = "metric"            // Windows: the order of the lines among themselves
	CheckPolicy    Check = "connection_policy" // Windows: it may drop a second line
	CheckTarget    Check = "target"            // a target of the user's answers
	CheckPeer      Check = "peer_address"      // the address that the internet sees
)

// order is the place of each check in a report.
var order = []Check{
	CheckInterface, CheckCarrier, CheckSource, CheckBind, CheckRoute, CheckRules, CheckFilter, CheckRouter, CheckVPN,
	CheckNetwork, CheckDuplicate, CheckMTU, CheckMetric, CheckPolicy, CheckTarget, CheckPeer,
}

// Finding is the result of one check.
type Finding struct {
	Check  Check  `json:"check"`
	Status Status `json:"status"`
	// Family is "ipv4" or "ipv6"; empty for what concerns the whole line.
	Family string `json:"family,omitempty"`
	// Text is one sentence, without a full stop.
	Text string `json:"text"`
	// Commands mend a Fail on this OS; to be run in this order, with a shell, as the administrator. Empty where no
	// command can, or where it takes something that the machine does not know: Text says what to do then.
	Commands []string `json:"commands,omitempty"`
	// Passage is what was measured on the way to a target; nil for all other checks.
	Passage *Passage `json:"passage,omitempty"`
}

// Passage is one connection through a line.
type Passage struct {
	Target      string  `json:"target"`                // as the user wrote it
	Destination string  `json:"destination,omitempty"` // the address and port it was made to
	Source      string  `json:"source,omitempty"`      // the address and port it left from
	ConnectMS   float64 `json:"connect_ms,omitempty"`  // how long connecting took, in milliseconds
	// BoundTo is the interface that the kernel says the socket is tied to; empty where it cannot tell.
	BoundTo string `json:"bound_to,omitempty"`
	// Sent is how many packets the interface has sent meanwhile, of any program; negative where that is not known.
	Sent int64 `json:"packets_sent"`
	// Peer is the address that the echo URL has seen.
	Peer string `json:"peer,omitempty"`
}

// Line is what was found out about one line.
type Line struct {
	Uplink    string `json:"uplink"`              // as the user named it
	Interface string `json:"interface,omitempty"` // the one that it stands for now
	Kind      string `json:"kind,omitempty"`
	// Chosen: the user named it, or `start` without uplinks would use it. Reason says why not.
	Chosen bool   `json:"chosen"`
	Reason string `json:"reason,omitempty"`
	// Usable: no finding is a Fail.
	Usable   bool      `json:"usable"`
	Findings []Finding `json:"findings"`
}

// Report is an examination's result.
type Report struct {
	// Usable: there is a chosen line, and all of those are usable.
	Usable bool   `json:"usable"`
	Lines  []Line `json:"lines"`
}

// Options of an examination. The zero value is the examination without targets.
type Options struct {
	// Targets are connected to through every chosen line, in each of its families.
	Targets []Target
	// EchoURL is fetched through every chosen line; the first IP address in the answer is taken for the one that
	// the internet sees. Empty: none is.
	EchoURL string
	// Timeout of one connection to a target, and of one fetch; 0 means 5 s.
	Timeout time.Duration
	// RouterTimeout is how long a router may take to answer; 0 means 4 s, or 10 s if the kernel believes it knows
	// the router's link address and first waits before it doubts that. Negative: the routers are not asked, and
	// only what the kernel already knows of them counts.
	RouterTimeout time.Duration
}

// Examine looks at the lines that specs name; with none, at those `start` would choose, and at the other interfaces
// that look like lines, whose Chosen is false. It takes some milliseconds, up to RouterTimeout where a router is
// silent, and the time for the targets.
//
// Something wrong with a line is a finding; an error means that the OS could not be asked.
func Examine(ctx context.Context, specs []uplink.Spec, o Options) (*Report, error) {
	e, err := newExamination(specs, o)
	if err != nil {
		return nil, err
	}
	e.examineLines(ctx)
	e.compareLines()
	e.visitTargets(ctx)
	return e.report(), nil
}

// Quick is Examine for a program's start: it contacts nobody, waits for nothing, and returns only the lines that specs
// name, each with its warnings and failures only. A line without any is left out.
func Quick(ctx context.Context, specs []uplink.Spec) ([]Line, error) {
	if len(specs) == 0 {
		return nil, nil
	}
	report, err := Examine(ctx, specs, Options{RouterTimeout: -1})
	if err != nil {
		return nil, err
	}
	var bad []Line
	for _, l := range report.Lines {
		var kept []Finding
		for _, f := range l.Findings {
			if f.Status != Pass {
				kept = append(kept, f)
			}
		}
		if l.Findings = kept; len(kept) > 0 {
			bad = append(bad, l)
		}
	}
	return bad, nil
}
