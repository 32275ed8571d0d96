package relay

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

// pollFD is WSAPOLLFD of winsock2.h.
type pollFD struct {
	socket          uintptr
	events, revents int16
}

// These are POLLRDNORM, POLLERR and MSG_PEEK of winsock2.h.
const (
	pollRead   = 0x0100
	pollBroken = 0x0001
	msgPeek    = 0x2
)

var wsaPoll = windows.NewLazySystemDLL("ws2_32.dll").NewProc("WSAPoll")

// look asks whether there is anything to read, and peeks at it if so: a read that has to
// wait for nothing.
func look(fd uintptr) State {
	p := pollFD{socket: fd, events: pollRead}
	ready, _, _ := wsaPoll.Call(uintptr(unsafe.Pointer(&p)), 1, 0)
	switch int32(ready) {
	case 0:
		return Open
	case -1: // it is no socket any more
		return Broken
	}
	if p.revents&pollBroken != 0 { // Wine's WSARecv would tell of an end, or of what came before the reset
		return Broken
	}
	var one [1]byte
	var n uint32
	flags := uint32(msgPeek)
	buf := windows.WSABuf{Len: 1, Buf: &one[0]}
	switch err := windows.WSARecv(windows.Handle(fd), &buf, 1, &n, &flags, nil, nil); {
	case err != nil:
		return Broken
	case n == 0:
		return Ended
	}
	return Unread
}
