//go:build !linux

package policyroutes

import (
	"errors"
	"fmt"

	"dispatch/dispatcher/uplink"
)

// errLinuxOnly: other systems route a socket that is tied to an interface by that interface's own default route, or have
// no rules by source.
var errLinuxOnly = fmt.Errorf("policy routes are made on Linux only: %w", errors.ErrUnsupported)

// Change is a set of routes and rules to be removed and installed. On this system there is none.
type Change struct {
	Commands []string
	Missing  []Missing
}

// Make does nothing.
func (*Change) Make() error { return nil }

// Close does nothing.
func (*Change) Close() error { return nil }

// Allowed says that this is possible on Linux only.
func Allowed() error { return errLinuxOnly }

// PlanFix says that this is possible on Linux only.
func PlanFix([]uplink.Spec) (*Change, error) { return nil, errLinuxOnly }

// PlanUnfix says that this is possible on Linux only.
func PlanUnfix() (*Change, error) { return nil, errLinuxOnly }

// RemoveLeft has nothing to remove.
func RemoveLeft() (found bool, err error) { return false, nil }

// Routes are the policy routes of one running process; on this system there are none.
type Routes struct{}

// New makes a Routes whose Apply fails.
func New() *Routes { return new(Routes) }

// Apply says that this is possible on Linux only.
func (*Routes) Apply(...uplink.Spec) ([]Missing, error) { return nil, errLinuxOnly }

// Remove has nothing to remove.
func (*Routes) Remove() error { return nil }
