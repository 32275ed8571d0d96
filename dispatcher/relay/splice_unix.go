//go:build unix && !linux

package relay

// splicing is the part of a flow that splices: never, here.
type splicing struct {
	piped     int
	uncertain bool
}

func (f *flow) fill(int) filling { return impossible }

func (f *flow) drain() *Error { return nil }

func (f *flow) releasePipe() {}
