//go:build !unix

package httpproxy

import (
	"errors"
	"io"
)

// isReset takes any error but a clean end, for each system has its own numbers.
func isReset(err error) bool { return !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) }
