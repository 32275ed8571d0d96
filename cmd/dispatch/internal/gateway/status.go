package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"dispatch/cmd/dispatch/internal/pages"
	"dispatch/dispatcher/health"
	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
)

// Status is what a running gateway tells of its lines, under /status; its field names are a promise to programs.
type Status struct {
	Lines []LineStatus `json:"lines"`
}

// LineStatus is the state of one line in one family.
type LineStatus struct {
	Uplink string    `json:"uplink"`
	Weight int       `json:"weight"`
	Family string    `json:"family"`
	State  string    `json:"state"`
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
}

func statusOf(lines *uplink.Fleet, monitor *health.Monitor) Status {
	s, weights := Status{Lines: []LineStatus{}}, make(map[string]int)
	for _, spec := range lines.Specs() {
		weights[spec.String()] = spec.Weight
	}
	for _, l := range monitor.Statuses() {
		s.Lines = append(s.Lines, LineStatus{
			Uplink: l.Uplink.Name(), Weight: weights[l.Uplink.Name()], Family: l.Family.String(),
			State: l.State.String(), Reason: l.Reason, Since: l.Since,
		})
	}
	return s
}

// askWithin bounds the question to a gateway, which is on this machine.
const askWithin = time.Second

// Ask gets the status of the gateway that listens for HTTP at an address of this machine.
func Ask(ctx context.Context, gateway netip.AddrPort) (s Status, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+gateway.String()+pages.Status, nil)
	if err != nil {
		return Status{}, err
	}
	// Not by a proxy of the environment, which may be this very gateway.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return Status{}, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return Status{}, fmt.Errorf("it answers %s", resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&s); err != nil {
		return Status{}, fmt.Errorf("its answer is none of dispatch's: %w", err)
	}
	return s, nil
}

// specs are the lines that the gateway has, as its user named them, and the names of those that the machine does not have
// now.
func (s Status) specs() (specs []uplink.Spec, gone []string, err error) {
	table, seen := new(machine.Table), make(map[string]bool)
	for _, l := range s.Lines { // one for each family
		if seen[l.Uplink] {
			continue
		}
		seen[l.Uplink] = true
		spec, err := uplink.ParseSpec(l.Uplink + "@" + strconv.Itoa(l.Weight))
		if err != nil {
			return nil, nil, fmt.Errorf("the answer is none of dispatch's: %w", err)
		}
		switch _, err := uplink.NewFleet(table, []uplink.Spec{spec}); {
		case err == nil:
			specs = append(specs, spec)
		case errors.Is(err, uplink.ErrNoMatch):
			gone = append(gone, l.Uplink)
		default:
			return nil, nil, fmt.Errorf("look for the gateway's line %s: %w", l.Uplink, err)
		}
	}
	if len(specs) == 0 {
		return nil, nil, fmt.Errorf("the machine has none of the gateway's lines now: %s", strings.Join(gone, ", "))
	}
	return specs, gone, nil
}

// bands are the lines that a running gateway says to be up, and all others, by family.
type bands map[uplink.Family][]uplink.IDs

// bands finds its lines among those of a fleet.
func (s Status) bands(lines *uplink.Fleet) bands {
	b := make(bands)
	for _, f := range []uplink.Family{uplink.IPv4, uplink.IPv6} {
		var others uplink.IDs
		for _, u := range lines.Uplinks() {
			if slices.ContainsFunc(s.Lines, func(l LineStatus) bool {
				return l.Uplink == u.Name() && l.Family == f.String() && l.State != health.Up.String()
			}) {
				others = others.With(u.ID())
			}
		}
		b[f] = []uplink.IDs{^others, others}
	}
	return b
}

// Bands returns what the gateway uses first, and the rest.
func (b bands) Bands(f uplink.Family) []uplink.IDs { return b[f] }
