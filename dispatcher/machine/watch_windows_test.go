package machine

import (
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// Called as Windows does, from outside of Go, the callback makes one event of many calls.
func TestNotifyCallback(t *testing.T) {
	t.Parallel()
	n := &notifications{happened: make(chan struct{}, 1)}
	n.pinned.Pin(n)
	other := &notifications{happened: make(chan struct{}, 1)}
	call := func() {
		if result, _, _ := syscall.SyscallN(notifyCallback(), uintptr(unsafe.Pointer(n)), 0, 1); result != 0 {
			t.Errorf("it returned %d", result)
		}
	}
	for range 3 {
		call()
	}
	for at, want := range []bool{true, false} {
		if got, err := n.wait(t.Context(), 0); err != nil || got != want {
			t.Errorf("wait %d: %t, %v; want %t", at+1, got, err, want)
		}
	}
	go call()
	if got, err := n.wait(t.Context(), 10*time.Second); err != nil || !got {
		t.Errorf("wait during the call: %t, %v", got, err)
	}
	if got, err := other.wait(t.Context(), time.Millisecond); err != nil || got {
		t.Errorf("a call for another: %t, %v", got, err)
	}
	if err := n.close(); err != nil {
		t.Error(err)
	}
}
