//go:build !linux && !darwin && !windows

package uplink

// bindSocket does nothing where the OS has no option that ties a socket to an interface: there the source
// address alone, and the machine's routing by source, decide on the line.
func bindSocket(uintptr, string, string, int) error { return nil }
