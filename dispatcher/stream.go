package dispatcher

import "dispatch/dispatcher/relay"

// Stream is a connection whose directions end each on its own, on either side of the gateway.
type Stream = relay.Stream

// State is what a socket tells of its peer.
type State = relay.State

// The states.
const (
	Open   = relay.Open   // the peer is there, and nothing has come that was not read
	Unread = relay.Unread // something has, or its end behind it
	Ended  = relay.Ended  // its FIN has come, and all before it was read
	Broken = relay.Broken // it was reset, or closed on our side
)

// StateOf looks, without a wait, at the socket that s is or wraps. A stream without one is taken to be Open.
func StateOf(s Stream) State { return relay.StateOf(s) }

// Reset closes s so that its peer sees it break. One that is closed already is no error.
func Reset(s Stream) error { return relay.Reset(s) }
