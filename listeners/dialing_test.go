package listeners

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"dispatch/testdata/loopback"
)

// TestDialEndsWithItsClient has clients do what clients do while their dial is under way, all at once.
func TestDialEndsWithItsClient(t *testing.T) {
	t.Parallel()
	const never = 0
	var results []func()
	for name, c := range map[string]struct {
		does           func(*net.TCPConn) error
		early          bool // as the handler says
		atLeast, until time.Duration
	}{
		"waits":  {func(*net.TCPConn) error { return nil }, false, never, never},
		"resets": {loopback.Reset, false, 0, leftAfter / 2},
		"resets behind early data": {func(c *net.TCPConn) error {
			_, err := c.Write([]byte("early"))
			return errors.Join(err, loopback.Reset(c))
		}, false, 0, leftAfter / 2},
		"resets, and the handler holds early data": {loopback.Reset, true, 0, leftAfter / 2},
		"ends":   {(*net.TCPConn).CloseWrite, false, leftAfter, 3 * leftAfter},
		"closes": {(*net.TCPConn).Close, false, leftAfter, 3 * leftAfter},
		"ends and resets": {func(c *net.TCPConn) error {
			err := c.CloseWrite()
			time.Sleep(lookEvery)
			return errors.Join(err, loopback.Reset(c))
		}, false, 0, leftAfter},
		"ends behind early data": {func(c *net.TCPConn) error {
			_, err := c.Write([]byte("early"))
			return errors.Join(err, c.CloseWrite())
		}, false, never, never},
		"ends, and the handler holds early data": {(*net.TCPConn).CloseWrite, true, never, never},
	} {
		dialling, ended := make(chan struct{}), make(chan time.Duration, 1)
		_, at := startServer(t, Config{HTTP: named("http"), SOCKS: handlerFunc(func(ctx context.Context, conn *Conn) {
			if _, err := conn.ReadByte(); err != nil {
				t.Error(err)
			}
			dial, leave := context.WithCancelCause(ctx)
			stop := conn.Dialing(leave, c.early)
			close(dialling)
			began := time.Now()
			select {
			case <-dial.Done():
				if cause := context.Cause(dial); !errors.Is(cause, ErrLeft) {
					t.Errorf("the dial ended because of %v", cause)
				}
				ended <- time.Since(began)
			case <-time.After(2 * leftAfter):
				ended <- never
			}
			stop()
			if dial.Err() == nil {
				t.Error("the context has not ended with its dial")
			}
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		})})
		client := loopback.Dial(t, at)
		say(t, client, "\x05")
		<-dialling
		if err := c.does(client); err != nil {
			t.Error(err)
		}
		results = append(results, func() {
			if took := <-ended; took < c.atLeast || took > c.until || took == never && c.until != never {
				t.Errorf("%s: the dial ended after %v, want %v to %v (0: never)", name, took, c.atLeast, c.until)
			}
		})
	}
	for _, result := range results {
		result()
	}
}

// TestDialsFollowEachOther has one client after the other leave: what is lent to their dials is the same.
func TestDialsFollowEachOther(t *testing.T) {
	t.Parallel()
	causes := make(chan error)
	_, at := startServer(t, Config{HTTP: named("http"), SOCKS: handlerFunc(func(ctx context.Context, conn *Conn) {
		for range 2 { // the first ends by itself
			dial, leave := context.WithCancelCause(ctx)
			stop := conn.Dialing(leave, false)
			select {
			case <-dial.Done():
			case <-time.After(lookEvery / 2):
			}
			stop()
			dial, leave = context.WithCancelCause(ctx)
			stop = conn.Dialing(leave, true)
			<-dial.Done()
			causes <- context.Cause(dial)
			stop()
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})})
	for range 3 {
		client := loopback.Dial(t, at)
		say(t, client, "\x05")
		if err := loopback.Reset(client); err != nil {
			t.Error(err)
		}
		for range 2 {
			if cause := <-causes; !errors.Is(cause, ErrLeft) {
				t.Errorf("the dial ended because of %v", cause)
			}
		}
	}
}
