package relay

import "net"

// queued returns how many bytes the kernel has not got acknowledged.
func queued(conn *net.TCPConn) int {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0
	}
	n, err := unacknowledged(raw)
	if err != nil {
		return 0
	}
	return n
}
