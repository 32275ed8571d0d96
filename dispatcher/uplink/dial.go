package uplink

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// keepAlive finds peers that vanished without a word within about two minutes, and refreshes the entries of
// home routers' address translation, which RFC 5382 lets forget an idle flow.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 45 * time.Second, Interval: 15 * time.Second, Count: 5}

// BindError says that a socket could not be tied to its line; the attempt has failed, nothing was sent.
type BindError struct {
	Option string // the socket option or call that failed
	Device string
	Err    error
}

func (e *BindError) Error() string {
	return fmt.Sprintf("bind to %s with %s: %v", e.Device, e.Option, e.Err)
}

func (e *BindError) Unwrap() error { return e.Err }

// UnavailableError says that an uplink has no usable address of the family that was asked for.
type UnavailableError struct {
	Uplink string
	Family Family
	Reason string
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("uplink %s cannot carry %s: %s", e.Uplink, e.Family, e.Reason)
}

// DialStream connects to the target by TCP, bound to the uplink's interface and source address as they are now. The caller
// closes the stream. Errors are *net.OpError, with a *BindError inside where binding failed, or *UnavailableError;
// FailureOf classes them all.
func (u *Uplink) DialStream(ctx context.Context, to Target) (Stream, error) {
	u.connecting.Add(1)
	defer u.connecting.Add(-1)
	var conn *net.TCPConn
	err := u.withLine(to.Addr, func(l *Binding, source netip.Addr) (err error) {
		d := net.Dialer{ControlContext: l.control, KeepAliveConfig: keepAlive}
		conn, err = d.DialTCP(ctx, "tcp", netip.AddrPortFrom(source, 0), netip.AddrPortFrom(to.Addr, to.Port))
		return err
	})
	if err != nil {
		return nil, err // not conn: a nil pointer in an interface is not nil
	}
	return conn, nil
}

// DialUDP makes a UDP socket that is bound and connected like DialStream's.
func (u *Uplink) DialUDP(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
	var conn *net.UDPConn
	err := u.withLine(dst.Addr(), func(l *Binding, source netip.Addr) (err error) {
		d := net.Dialer{ControlContext: l.control}
		conn, err = d.DialUDP(ctx, "udp", netip.AddrPortFrom(source, 0), dst)
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// withLine calls dial with the uplink's line and its source for dst; once more with a new reading of the
// interfaces when the failure says that the last one is out of date.
func (u *Uplink) withLine(dst netip.Addr, dial func(*Binding, netip.Addr) error) error {
	for retried := false; ; retried = true {
		view, err := u.fleet.View()
		if err != nil {
			return err
		}
		l, family := view.BindingOf(u), FamilyOf(dst)
		if l == nil {
			return &UnavailableError{Uplink: u.name, Family: family, Reason: "it is not in use any more"}
		}
		if source := l.Source(family); source.IsValid() {
			err = dial(l, source)
		} else {
			reason := l.Problem
			if reason == "" {
				reason = "it has only " + l.Families.String()
			}
			err = &UnavailableError{Uplink: u.Name(), Family: family, Reason: reason}
		}
		if err == nil || retried || !outdated(err) || time.Since(view.reading.At) < staleAfter {
			return err
		}
		u.fleet.Invalidate()
	}
}

// staleAfter bounds how often failures make the interfaces be read again.
const staleAfter = 50 * time.Millisecond

func (l *Binding) control(_ context.Context, network, _ string, c syscall.RawConn) error {
	var bindErr error
	err := c.Control(func(fd uintptr) {
		bindErr = bindSocket(fd, network, l.Device, l.Index)
	})
	if err != nil {
		return err
	}
	return bindErr
}
