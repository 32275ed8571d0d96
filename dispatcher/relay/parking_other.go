//go:build !linux

package relay

import "time"

// parkingLot parks nobody here: each flow keeps its goroutine.
type parkingLot struct{}

type parking struct{}

const awaitData, awaitReset = 0, 0

type parkResult int

const (
	failed parkResult = iota
	retry
	isParked
)

func (*parkingLot) init() {}

func (*parkingLot) enter(...*flow) {}

func (*parkingLot) leave(*flow) {}

func (*parkingLot) wake(...*flow) {}

func (*parkingLot) park(*flow, error, uint32) parkResult { return failed }

func (*parkingLot) hurry(f *flow, by time.Time) error { return f.src.stream.SetReadDeadline(by) }
