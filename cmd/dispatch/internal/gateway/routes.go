package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"dispatch/dispatcher/policyroutes"
	"dispatch/dispatcher/uplink"
)

// lineRoutes keeps a policy route for every line.
type lineRoutes struct {
	lines *uplink.Fleet
	log   *slog.Logger

	mu      sync.Mutex // held while they are applied
	routes  *policyroutes.Routes
	missing []policyroutes.Missing // what was last said of lines without any
}

func newLineRoutes(lines *uplink.Fleet, log *slog.Logger) *lineRoutes {
	return &lineRoutes{lines: lines, log: log, routes: policyroutes.New()}
}

// install makes the routes for the first time.
func (r *lineRoutes) install() error {
	if err := policyroutes.Allowed(); err != nil {
		return fmt.Errorf("--manage-routes: %w", err)
	}
	return r.apply()
}

// renewEvery is how often the policy routes are looked at without any news: somebody may have removed them in a way that
// leaves the lines as they were, or renewing them may have failed.
const renewEvery = 30 * time.Second

// keep renews the routes until ctx ends.
func (r *lineRoutes) keep(ctx context.Context) {
	for tick := time.Tick(renewEvery); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick:
			r.renew()
		}
	}
}

// renew makes the routes as the lines need them now.
func (r *lineRoutes) renew() {
	if err := r.apply(); err != nil {
		r.log.Warn("renewing the policy routes failed", "error", err)
	}
}

func (r *lineRoutes) apply() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	missing, err := r.routes.Apply(r.lines.Specs()...)
	if err != nil {
		return fmt.Errorf("--manage-routes: %w", err)
	}
	if slices.Equal(missing, r.missing) {
		return nil // told already
	}
	r.missing = missing
	for _, m := range missing {
		family := ""
		if m.Family != 0 {
			family = m.Family.String()
		}
		r.log.Warn("no policy route for a line", "uplink", m.Uplink, "family", family, "problem", m.Problem)
	}
	return nil
}

// remove takes the routes away.
func (r *lineRoutes) remove() error { return r.routes.Remove() }

// clearRoutes removes the policy routes that a run has left behind which could not do so itself. That is worth a try only
// to one that may, and no reason not to start.
func clearRoutes(log *slog.Logger) {
	if policyroutes.Allowed() != nil {
		return
	}
	left, err := policyroutes.RemoveLeft()
	if err != nil {
		log.Warn("removing the policy routes of an earlier run failed", "error", err)
	} else if left {
		log.Info("policy routes that an earlier run had left behind were removed")
	}
}
