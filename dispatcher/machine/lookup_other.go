//go:build !linux && !windows && !darwin && !freebsd

package machine

import (
	"errors"
	"net/netip"
)

func lookup(netip.Addr, int, netip.Addr) (Path, error) { return Path{}, errors.ErrUnsupported }
