package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
)

// Target is a server of the user's choice.
type Target struct {
	// Host is a name, which the system's resolver looks up, or an address.
	Host string
	Port uint16
}

// ParseTarget reads HOST:PORT.
func ParseTarget(text string) (Target, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return Target{}, fmt.Errorf("target %q is not HOST:PORT; write it as example.com:443 or [2001:db8::1]:443", text)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 || host == "" {
		return Target{}, fmt.Errorf("target %q needs a host and a port from 1 to 65535, as in example.com:443", text)
	}
	return Target{Host: host, Port: uint16(number)}, nil
}

// String is the target as ParseTarget reads it.
func (t Target) String() string { return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port))) }

const targetTimeout = 5 * time.Second

// visitTargets connects to all targets through one line after the other, so that what an interface sends meanwhile
// is that line's doing as far as this program is concerned.
func (e *examination) visitTargets(ctx context.Context) {
	if e.Timeout == 0 {
		e.Timeout = targetTimeout
	}
	for _, t := range e.Targets {
		addrs, err := lookUp(ctx, t, e.Timeout)
		for _, l := range e.lines {
			if !l.Chosen || len(l.source) == 0 {
				continue
			}
			if err != nil {
				l.fail(CheckTarget, 0, nil, "the target %s has no address: %v", t, err)
				continue
			}
			e.visit(ctx, l, t, addrs)
		}
	}
	if e.EchoURL != "" {
		e.comparePeers(ctx)
	}
}

func lookUp(ctx context.Context, t Target, timeout time.Duration) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return net.DefaultResolver.LookupNetIP(ctx, "ip", t.Host)
}

// visit connects to the target's first address of each family that the line has.
func (e *examination) visit(ctx context.Context, l *line, t Target, addrs []netip.Addr) {
	visited := false
	for _, f := range families {
		for _, a := range addrs {
			a = a.Unmap()
			if l.source[f].IsValid() && machine.FamilyOf(a) == f {
				e.connect(ctx, l, f, t, netip.AddrPortFrom(a, t.Port))
				visited = true
				break
			}
		}
	}
	if !visited {
		l.warn(CheckTarget, 0, nil, "the target %s has no address of a family that the line has", t)
	}
}

// connect makes one connection and proves which way it went.
func (e *examination) connect(ctx context.Context, l *line, f machine.Family, t Target, to netip.AddrPort) {
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	p := &Passage{Target: t.String(), Destination: to.String(), Sent: -1}
	before, counted := packetsSent(l.link)
	begun := time.Now()
	conn, err := l.way.DialStream(ctx, uplink.To(to))
	took := time.Since(begun)
	if after, ok := packetsSent(l.link); ok && counted {
		p.Sent = after - before
	}
	if err == nil {
		p.ConnectMS = float64(took.Microseconds()) / 1000
		p.Source = conn.LocalAddr().String()
		p.BoundTo = bindingOf(conn)
		err = conn.Close()
	}
	if err != nil {
		l.fail(CheckTarget, f, nil, "the target %s cannot be reached%s: %s after %s%s",
			t, at(t, to), uplink.FailureOf(err), took.Round(time.Millisecond), sentText(l, p))
	} else {
		l.pass(CheckTarget, f, "connected to %s%s in %.1f ms from %s%s", t, at(t, to), p.ConnectMS, p.Source, sentText(l, p))
	}
	l.Findings[len(l.Findings)-1].Passage = p
}

// at names the address of a target that was given by name.
func at(t Target, to netip.AddrPort) string {
	if t.String() == to.String() {
		return ""
	}
	return " at " + to.String()
}

// sentText is the proof in words.
func sentText(l *line, p *Passage) string {
	text := ""
	if p.BoundTo != "" {
		text = "; the socket was tied to " + p.BoundTo
	}
	switch {
	case p.Sent == 1:
		text += "; " + l.Interface + " sent 1 packet meanwhile"
	case p.Sent >= 0:
		text += "; " + l.Interface + " sent " + strconv.FormatInt(p.Sent, 10) + " packets meanwhile"
	}
	return text
}

// comparePeers asks what address the internet sees of each line. Two lines with one address share what is behind it.
func (e *examination) comparePeers(ctx context.Context) {
	seen := make(map[string]*line)
	for _, l := range e.lines {
		if !l.Chosen {
			continue
		}
		for _, f := range families {
			if !l.source[f].IsValid() {
				continue
			}
			p, err := e.fetchPeer(ctx, l, f)
			other := seen[p.Peer]
			switch {
			case errors.Is(err, errOtherFamily):
				continue
			case err != nil:
				l.fail(CheckPeer, f, nil, "%s cannot be fetched: %v", e.EchoURL, err)
			case p.Peer == "":
				l.warn(CheckPeer, f, nil, "%s answered without an IP address", e.EchoURL)
			case other != nil && other.iface.Index != l.iface.Index:
				l.warn(CheckPeer, f, nil, "the internet sees %s, as it does of %s: the two share one connection", p.Peer, other.Uplink)
			default:
				seen[p.Peer] = l
				l.pass(CheckPeer, f, "the internet sees %s", p.Peer)
			}
			l.Findings[len(l.Findings)-1].Passage = p
		}
	}
}
