package gateway

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"dispatch/testdata/netlab"
)

// modelVerb is something that befalls the network or the ends. It begins with do, on a line of its own, and ends with
// what that returns. What it draws must be drawn within do, and depend on nothing else.
type modelVerb struct {
	name string
	do   func(m *model, line int, r *rand.Rand) (undo func())
}

func nothing() {}

// modelVerbs is all that can happen; each is as likely as any other.
var modelVerbs = []modelVerb{
	{"the client's link goes down", func(m *model, line int, _ *rand.Rand) func() {
		m.lab.ClientLink(line, false)
		return func() { m.lab.ClientLink(line, true) }
	}},
	{"the ISP's link goes down", func(m *model, line int, _ *rand.Rand) func() {
		m.lab.ISPLink(line, false)
		return func() { m.lab.ISPLink(line, true) }
	}},
	{"the line is unplugged", func(m *model, line int, _ *rand.Rand) func() {
		m.lab.Unplug(line)
		return func() { m.lab.Plug(line) }
	}},
	{"the ISP forwards nothing", func(m *model, line int, _ *rand.Rand) func() {
		m.lab.Silence(line, true)
		return func() { m.lab.Silence(line, false) }
	}},
	{"the ISP is silent", func(m *model, line int, _ *rand.Rand) func() {
		m.lab.SilenceAll(line, true)
		return func() { m.lab.SilenceAll(line, false) }
	}},
	{"the line is slow", func(m *model, line int, r *rand.Rand) func() {
		m.lab.SetRate(line, 5_000_000+r.Uint64N(45_000_000))
		return func() { m.lab.SetRate(line, 0) }
	}},
	{"the IPv4 default route goes", func(m *model, line int, _ *rand.Rand) func() {
		m.lab.SetDefault4(line, false)
		return func() { m.lab.SetDefault4(line, true) }
	}},
	{"the IPv6 default route goes", func(m *model, line int, _ *rand.Rand) func() {
		m.lab.SetDefault6(line, false)
		return func() { m.lab.SetDefault6(line, true) }
	}},
	{"the IPv4 address goes", func(m *model, line int, _ *rand.Rand) func() {
		old := m.lab.Uplink(line).IPv4
		m.lab.DelAddr(line, old.Addr())
		return func() { m.lab.Readdress(line, old) }
	}},
	{"other addresses", func(m *model, line int, _ *rand.Rand) func() {
		m.readdress(line)
		return nothing
	}},
	{"a further IPv6 address, and the first deprecated", func(m *model, line int, _ *rand.Rand) func() {
		first := m.lab.Uplink(line).IPv6
		further := netip.PrefixFrom(netip.AddrFrom16(withLast(first.Addr().As16(), 250)), first.Bits())
		m.lab.AddAddr(line, netlab.Addr{Prefix: further})
		m.lab.AddAddr(line, netlab.Addr{Prefix: first, Deprecated: true})
		return func() {
			m.lab.AddAddr(line, netlab.Addr{Prefix: first})
			m.lab.DelAddr(line, further.Addr())
		}
	}},
	{"a line loses the packets to some origins", func(m *model, line int, r *rand.Rand) func() {
		return m.block(m.lab.ISP(line), netlab.Drop, r)
	}},
	{"a line says that some origins are unreachable", func(m *model, line int, r *rand.Rand) func() {
		return m.block(m.lab.ISP(line), netlab.Unreachable, r)
	}},
	{"the internet loses the packets to some origins", func(m *model, _ int, r *rand.Rand) func() {
		return m.block(m.lab.Internet, netlab.Drop, r)
	}},
	{"some origins reset their connections", func(m *model, _ int, r *rand.Rand) func() {
		for _, o := range m.some(r) {
			o.reset(true)
		}
		return nothing
	}},
	{"some origins are down", func(m *model, _ int, r *rand.Rand) func() {
		down := m.some(r)
		for _, o := range down {
			o.shut()
			o.reset(true)
		}
		return func() {
			for _, o := range down {
				o.open()
			}
		}
	}},
	{"some clients are killed", func(m *model, _ int, r *rand.Rand) func() {
		for range 15 {
			m.clients[r.IntN(len(m.clients))].kill()
			time.Sleep(time.Millisecond)
		}
		return nothing
	}},
}

func withLast(a [16]byte, last byte) [16]byte {
	a[15] = last
	return a
}

// readdress gives a line addresses that it has not had for long.
func (m *model) readdress(line int) {
	last := byte(10 + m.renumbered.Add(1)%200)
	u := m.lab.Uplink(line)
	v4 := u.IPv4.Addr().As4()
	v4[3] = last
	m.lab.Readdress(line, netip.PrefixFrom(netip.AddrFrom4(v4), u.IPv4.Bits()))
	m.lab.Readdress(line, netip.PrefixFrom(netip.AddrFrom16(withLast(u.IPv6.Addr().As16(), last)), u.IPv6.Bits()))
}

// some draws a quarter of the origins.
func (m *model) some(r *rand.Rand) []*modelOrigin {
	var some []*modelOrigin
	for _, n := range r.Perm(len(m.origins))[:len(m.origins)/4] {
		some = append(some, m.origins[n])
	}
	return some
}

// block has a machine treat the packets to some origins in a way, until it is undone.
func (m *model) block(at *netlab.Machine, fate netlab.Fate, r *rand.Rand) (undo func()) {
	some := m.some(r)
	set := func(fate netlab.Fate) {
		for _, o := range some {
			for _, a := range o.addrs {
				at.Block(a, fate)
			}
		}
	}
	set(fate)
	return func() { set(netlab.Deliver) }
}
