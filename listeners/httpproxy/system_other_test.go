//go:build !unix

package httpproxy

import (
	"errors"
	"io"
	"time"
)

// isReset takes any error but a clean end, for each system has its own numbers.
func isReset(err error) bool { return !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) }

// cpuTime is not measured here.
func cpuTime() time.Duration { return 0 }
