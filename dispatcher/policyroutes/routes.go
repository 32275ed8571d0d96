// Package policyroutes installs and removes the routes and rules that make a line work whatever the main routing table and
// the reverse path filter say, on Linux: for each address that connections leave from, a routing table with the line's
// default route, and rules that lead there. They are the administrator's, who has asked for them once, or go with a
// running process.
package policyroutes

import "dispatch/dispatcher/machine"

// Missing is a line that no policy route can be installed for at the moment.
type Missing struct {
	Uplink string
	// Family is 0 where it is so of the whole line.
	Family  machine.Family
	Problem string
}
