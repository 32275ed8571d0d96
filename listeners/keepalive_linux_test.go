package listeners

import (
	"context"
	"syscall"
	"testing"

	"dispatch/testdata/loopback"
)

func TestClientsAreKeptAlive(t *testing.T) {
	t.Parallel()
	got := make(chan int, 1)
	_, at := startServer(t, Config{HTTP: named("http"), SOCKS: handlerFunc(func(_ context.Context, c *Conn) {
		stream, _ := c.Detach()
		raw, err := stream.(syscall.Conn).SyscallConn()
		if err != nil {
			panic(err)
		}
		value := -1
		if err := raw.Control(func(fd uintptr) {
			if value, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE); err != nil {
				panic(err)
			}
		}); err != nil {
			panic(err)
		}
		got <- value
		if err := c.Close(); err != nil {
			panic(err)
		}
	})})
	say(t, loopback.Dial(t, at), "\x05")
	if v := <-got; v != 1 {
		t.Errorf("SO_KEEPALIVE is %d", v)
	}
}
