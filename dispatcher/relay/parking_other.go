//go:build !linux

package relay

import "time"

// parkingLot parks nobody here: each flow keeps its goroutine.
type parkingLot struct{}

type place struct{}

const awaitData, awaitReset = 0, 0

type verdict int

const (
	failed verdict = iota
	retry
	isParked
)

func (*parkingLot) init() {}

func (*parkingLot) enter(...*flow) {}

func (*parkingLot) leave(*flow) {}

func (*parkingLot) wake(...*flow) {}

func (*parkingLot) park(*flow, error, uint32) verdict { return failed }

func (*parkingLot) hurry(f *flow, by time.Time) error { return f.src.conn.SetReadDeadline(by) }
