//go:build !linux && !darwin && !freebsd && !windows

package machine

import (
	"errors"
	"time"
)

// quietReread is of no effect here.
const quietReread = 30 * time.Second

// openEvents has nothing to open: the interfaces are read every second.
func openEvents() (eventSource, error) { return nil, errors.ErrUnsupported }
