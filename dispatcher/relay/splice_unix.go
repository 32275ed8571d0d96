//go:build unix && !linux

package relay

// splicing is the part of a flow that splices: never, here.
type splicing struct{ piped int }

func (c *copying) fill(int) filling { return impossible }

func (c *copying) drain() *Error { return nil }

func (c *copying) drainOnce(uintptr) bool { return true }

func (c *copying) releasePipe() {}
