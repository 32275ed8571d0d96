package listeners

import (
	"context"
	"syscall"
	"testing"

	"dispatch/testdata/loopback"
)

func TestClientsAreKeptAlive(t *testing.T) {
	t.Parallel()
	options := []struct {
		name                 string
		level, option, value int
	}{
		{"SO_KEEPALIVE", syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
		{"TCP_KEEPIDLE", syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 45},
		{"TCP_KEEPINTVL", syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 15},
		{"TCP_KEEPCNT", syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 5},
	}
	got := make(chan int, len(options))
	_, at := startServer(t, Config{HTTP: named("http"), SOCKS: handlerFunc(func(_ context.Context, c *Conn) {
		stream, _ := c.Detach()
		raw, err := stream.(syscall.Conn).SyscallConn()
		if err != nil {
			panic(err)
		}
		if err := raw.Control(func(fd uintptr) {
			for _, o := range options {
				value, err := syscall.GetsockoptInt(int(fd), o.level, o.option)
				if err != nil {
					panic(err)
				}
				got <- value
			}
		}); err != nil {
			panic(err)
		}
		if err := c.Close(); err != nil {
			panic(err)
		}
	})})
	say(t, loopback.Dial(t, at), "\x05")
	for _, o := range options {
		if v := <-got; v != o.value {
			t.Errorf("%s is %d, want %d", o.name, v, o.value)
		}
	}
}
