package dispatcher

import (
	"context"
	"time"

	"dispatch/dispatcher/balance"
	"dispatch/dispatcher/uplink"
)

// Sample tells a strategy that wants to know what the lines carry, until ctx ends. For one that does not, it returns at once.
func (d *Dispatcher) Sample(ctx context.Context) {
	sampler, wants := d.strategy.(balance.Sampler)
	if !wants {
		return
	}
	ticker := time.NewTicker(balance.SampleEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			sampler.Sample(now, d.ledger.traffic(d.fleet.Uplinks()))
		}
	}
}

// traffic is what the lines carry. It is not on the way of any byte: those are counted by each session for itself.
func (l *ledger) traffic(lines []*uplink.Uplink) []balance.Traffic {
	all := make([]balance.Traffic, len(lines))
	at := make(map[*uplink.Uplink]*balance.Traffic, len(lines))
	for n, u := range lines {
		all[n] = balance.Traffic{Line: u, Connecting: u.Connecting()}
		at[u] = &all[n]
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for n, u := range lines {
		if ended := l.byUplink[u.Name()]; ended != nil {
			all[n].Up, all[n].Down = ended.Up, ended.Down
		}
	}
	for s := l.live; s != nil; s = s.next {
		c := s.conn.Load()
		if c == nil || at[c.uplink] == nil {
			continue
		}
		t, up, down := at[c.uplink], s.bytes.Up.Load(), s.bytes.Down.Load()
		t.Open++
		t.Up += up
		t.Down += down
		if up+down != s.sampled {
			t.Busy++
			s.sampled = up + down
		}
	}
	return all
}
