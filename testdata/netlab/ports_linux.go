package netlab

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Layout of the kernel's struct inet_diag_req_v2 and struct inet_diag_msg (linux/inet_diag.h). Both hold the same
// 48 bytes that say which socket is meant.
const (
	diagRequestLen = 56
	diagRequestID  = 8
	diagAnswerID   = 4
	diagIDLen      = 48
	diagAnswerLen  = 72
	diagAnswerNode = 68 // the inode number: 0 for a socket that no process has
	allTCPStates   = 0xfff
)

// freePorts destroys the client's TCP sockets that were closed and live on in the kernel, in TIME_WAIT or trying to
// get a last byte through: for a minute or more they would take source ports away from the tests that follow.
func freePorts() error {
	var errs []error
	for _, fam := range families() {
		dump := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
		dump.AddRawData(diagRequest(fam, allTCPStates, nil))
		sockets, err := dump.Execute(unix.NETLINK_SOCK_DIAG, nl.SOCK_DIAG_BY_FAMILY)
		if err != nil {
			errs = append(errs, fmt.Errorf("listing sockets: %w", err))
		}
		for _, s := range sockets {
			if len(s) < diagAnswerLen || nl.NativeEndian().Uint32(s[diagAnswerNode:]) != 0 {
				continue
			}
			kill := nl.NewNetlinkRequest(nl.SOCK_DESTROY, unix.NLM_F_ACK)
			kill.AddRawData(diagRequest(fam, 0, s[diagAnswerID:diagAnswerID+diagIDLen]))
			_, err := kill.Execute(unix.NETLINK_SOCK_DIAG, 0)
			switch {
			case errors.Is(err, unix.ENOENT): // it has just ended by itself
			case errors.Is(err, unix.EOPNOTSUPP): // a kernel without CONFIG_INET_DIAG_DESTROY: the ports come back later
				return errors.Join(errs...)
			case err != nil:
				errs = append(errs, fmt.Errorf("destroying a closed socket: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

func diagRequest(family, states int, id []byte) []byte {
	req := make([]byte, diagRequestLen)
	req[0] = byte(family)
	req[1] = unix.IPPROTO_TCP
	nl.NativeEndian().PutUint32(req[4:], uint32(states))
	copy(req[diagRequestID:], id)
	return req
}
