//go:build unix

package dispatcher

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"

	"dispatch/testdata/loopback"
)

// What the machine runs out of keeps further attempts from beginning; one under way may still win.
func TestExhaustionLeavesOthersTheirChance(t *testing.T) {
	t.Parallel()
	d := New(Config{Fleet: house(t)})
	conn := loopback.Dial(t, loopback.Serve(t, loopback.Echo))
	r := &race{d: d, began: time.Now(), request: &Request{Host: "a"}, pairs: pairs{lanes: []lane{{destinations: destinations("192.0.2.1", "192.0.2.2", "192.0.2.3")}}}}
	r.ctx, r.cancel = context.WithCancelCause(t.Context())
	first, _ := r.take()
	second, _ := r.take()
	r.settle(second, nil, syscall.EMFILE, time.Second)
	if _, more := r.take(); more || r.over || r.ctx.Err() != nil {
		t.Errorf("a further attempt %t, over %t, %v", more, r.over, r.ctx.Err())
	}
	r.settle(first, conn, nil, time.Second)
	if r.winner == nil || r.winner.stream != conn || !r.over {
		t.Errorf("the winner is %+v", r.winner)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}

	r = &race{d: d, began: time.Now(), request: &Request{Host: "a"}, pairs: pairs{lanes: []lane{{destinations: destinations("192.0.2.1", "192.0.2.2")}}}}
	r.ctx, r.cancel = context.WithCancelCause(t.Context())
	only, _ := r.take()
	r.settle(only, nil, syscall.EMFILE, time.Second)
	if !r.over || r.ctx.Err() == nil {
		t.Error("nothing is under way, and the race goes on")
	}
}

// A line without a free port leaves the others their chance, and is not held responsible.
func TestNoPortIsTheNextLinesTurn(t *testing.T) {
	t.Parallel()
	d := New(Config{Fleet: house(t)})
	r := &race{d: d, began: time.Now(), request: &Request{Host: "a"}, pairs: pairs{}}
	for _, u := range d.fleet.Uplinks() {
		r.pairs.lanes = append(r.pairs.lanes, lane{uplink: u, destinations: destinations("192.0.2.1")})
	}
	r.ctx, r.cancel = context.WithCancelCause(t.Context())
	first, _ := r.take()
	r.settle(first, nil, os.NewSyscallError("connect", syscall.EADDRNOTAVAIL), time.Millisecond)
	if second, ok := r.take(); !ok || second.uplink == first.uplink {
		t.Errorf("after a line without ports: %t, %+v", ok, second)
	}
}
