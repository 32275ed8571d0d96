package doctor

import "dispatch/dispatcher/machine"

// Missing is a line that no policy route can be installed for at the moment.
type Missing struct {
	Uplink string
	// Family is 0 where it is so of the whole line.
	Family  machine.Family
	Problem string
}
