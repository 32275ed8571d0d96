package machine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// quietReread is how often the interfaces are read without any event, as a safety net.
const quietReread = 30 * time.Second

// notifications are the callbacks of Windows' network stack for links, addresses and routes.
type notifications struct {
	happened chan struct{} // holds one event; more are the same
	handles  []windows.Handle
	pinned   runtime.Pinner
}

// notifyCallback is what Windows calls, on a thread of its own. There is one for the process because one that was made
// is never freed; its first argument tells whom the call is for.
var notifyCallback = sync.OnceValue(func() uintptr {
	return windows.NewCallback(func(n *notifications, _, _ uintptr) uintptr {
		select {
		case n.happened <- struct{}{}:
		default:
		}
		return 0
	})
})

func openEvents() (eventSource, error) {
	n := &notifications{happened: make(chan struct{}, 1)}
	n.pinned.Pin(n) // Windows keeps its address
	for _, kind := range []struct {
		name     string
		register func(family uint16, callback uintptr, context unsafe.Pointer, initial bool, handle *windows.Handle) error
	}{
		{"NotifyIpInterfaceChange", windows.NotifyIpInterfaceChange},
		{"NotifyUnicastIpAddressChange", windows.NotifyUnicastIpAddressChange},
		{"NotifyRouteChange2", windows.NotifyRouteChange2},
	} {
		var handle windows.Handle
		err := kind.register(windows.AF_UNSPEC, notifyCallback(), unsafe.Pointer(n), false, &handle)
		if err == nil && handle == 0 {
			err = errors.New("it returned no handle") // Wine's does nothing
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("register with %s: %w", kind.name, err), n.close())
		}
		n.handles = append(n.handles, handle)
	}
	return n, nil
}

func (n *notifications) wait(ctx context.Context, atMost time.Duration) (bool, error) {
	select {
	case <-n.happened:
		return true, nil
	default:
	}
	if atMost <= 0 {
		return false, nil
	}
	t := time.NewTimer(atMost)
	defer t.Stop()
	select {
	case <-n.happened:
		return true, nil
	case <-t.C:
	case <-ctx.Done():
	}
	return false, nil
}

// close ends the calls: CancelMibChangeNotify2 waits for those under way, and fails only for what is not registered.
func (n *notifications) close() error {
	var errs []error
	for _, handle := range n.handles {
		if err := windows.CancelMibChangeNotify2(handle); err != nil {
			errs = append(errs, fmt.Errorf("cancel a network notification: %w", err))
		}
	}
	n.pinned.Unpin()
	return errors.Join(errs...)
}
