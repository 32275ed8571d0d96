//go:build !unix && !windows

package relay

// newCopying is for the systems that need a state while copying.
func newCopying() any { return nil }

// copySocket has no better way to wait than to read.
func (f *flow) copySocket() (failure *Error, parked bool) { return f.copyPlain(), false }

// watch does not wait: nothing tells of a reset after a FIN.
func (f *flow) watch() (broken *Error, parked bool) { return nil, false }

// confirmPlain has nothing to doubt: a reset is told to all who ask.
func (f *flow) confirmPlain() *Error { return nil }
