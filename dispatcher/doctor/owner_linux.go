package doctor

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// claim says that a process owns a slot. It is a socket with a name in the abstract namespace: that belongs to a network
// namespace just as routes and rules do, needs no folder, and goes with the process however that ends.
type claim struct {
	slot   int
	socket *net.UnixConn
}

// claimSlot takes a slot; false where a living process has it.
func claimSlot(slot int) (*claim, bool, error) {
	name := &net.UnixAddr{Net: "unixgram", Name: "@dispatch-routes-" + strconv.Itoa(slot)}
	socket, err := net.ListenUnixgram("unixgram", name)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("claim the right to manage routes with the socket %s: %w", name.Name, err)
	}
	return &claim{slot, socket}, true, nil
}

func (c *claim) release() error { return c.socket.Close() }

// claimFree takes the first slot that no living process has.
func claimFree() (*claim, error) {
	for slot := 1; slot < slots; slot++ {
		c, free, err := claimSlot(slot)
		if free || err != nil {
			return c, err
		}
	}
	return nil, fmt.Errorf("manage routes: %d processes do so already; end one of them", slots-1)
}

// claimDead takes the slots of which something is installed and whose process is no more, and no others: those are for
// processes that start meanwhile. The caller releases them.
func claimDead(has installed) (claims []*claim, err error) {
	for _, slot := range has.slots() {
		c, free, err := claimSlot(slot)
		if err != nil {
			return nil, errors.Join(err, releaseAll(claims))
		}
		if free {
			claims = append(claims, c)
		}
	}
	return claims, nil
}

func releaseAll(claims []*claim) error {
	var errs []error
	for _, c := range claims {
		errs = append(errs, c.release())
	}
	return errors.Join(errs...)
}
