package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"dispatch/dispatcher/health"
	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
)

// status is what a running gateway tells of its lines, under /status; its field names are a promise to programs.
type status struct {
	Lines []lineStatus `json:"lines"`
}

type lineStatus struct {
	Uplink string    `json:"uplink"`
	Weight int       `json:"weight"`
	Family string    `json:"family"`
	State  string    `json:"state"`
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
}

func (g *gateway) status() any {
	s, weights := status{Lines: []lineStatus{}}, make(map[string]int)
	for _, spec := range g.lines.Specs() {
		weights[spec.String()] = spec.Weight
	}
	for _, l := range g.health.Statuses() {
		s.Lines = append(s.Lines, lineStatus{
			Uplink: l.Uplink.Name(), Weight: weights[l.Uplink.Name()], Family: l.Family.String(),
			State: l.State.String(), Reason: l.Reason, Since: l.Since,
		})
	}
	return s
}

// askWithin bounds the question to a gateway, which is on this machine.
const askWithin = time.Second

// ask gets the status of the gateway that listens for HTTP at an address.
func ask(ctx context.Context, gateway netip.AddrPort) (s status, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+gateway.String()+"/status", nil)
	if err != nil {
		return status{}, err
	}
	// Not by a proxy of the environment, which may be this very gateway.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return status{}, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return status{}, fmt.Errorf("it answers %s", resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&s); err != nil {
		return status{}, fmt.Errorf("its answer is none of dispatch's: %w", err)
	}
	return s, nil
}

// specs are the lines that the gateway has, as its user named them, and those of them that the machine does not have now.
func (s status) specs() (specs []uplink.Spec, gone []string, err error) {
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

// bandsAsTold puts the lines behind the others that a gateway has said not to be up.
type bandsAsTold [2][]uplink.IDs

// told finds the lines of the fleet in what a gateway has said.
func told(s status, fleet *uplink.Fleet) bandsAsTold {
	var others [2]uplink.IDs
	for _, l := range s.Lines {
		for _, u := range fleet.Uplinks() {
			if u.Name() == l.Uplink && l.State != health.Up.String() {
				others[placeOf(l.Family)] = others[placeOf(l.Family)].With(u.ID())
			}
		}
	}
	return bandsAsTold{{^others[0], others[0]}, {^others[1], others[1]}}
}

func placeOf(family string) int {
	if family == machine.IPv6.String() {
		return 1
	}
	return 0
}

// Bands returns what the gateway uses first, and the rest.
func (b bandsAsTold) Bands(f machine.Family) []uplink.IDs { return b[placeOf(f.String())] }
