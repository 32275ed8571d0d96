//go:build !windows

package resolver

// tooLong is for Windows: other systems cut a datagram that is longer than the buffer without an error.
func tooLong(error) bool { return false }
