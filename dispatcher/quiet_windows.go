package dispatcher

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

// pollFD is WSAPOLLFD of winsock2.h.
type pollFD struct {
	socket          uintptr
	events, revents int16
}

// pollRead is POLLRDNORM of winsock2.h: there is data, or the end of it.
const pollRead = 0x0100

var wsaPoll = windows.NewLazySystemDLL("ws2_32.dll").NewProc("WSAPoll")

// isQuiet asks without waiting whether there is anything to read.
func isQuiet(fd uintptr) bool {
	p := pollFD{socket: fd, events: pollRead}
	ready, _, _ := wsaPoll.Call(uintptr(unsafe.Pointer(&p)), 1, 0)
	return int32(ready) == 0 // 1: there is; -1: it is no socket any more
}
