// Package dispatcher turns what a client asked for into a connection through one of the uplinks: it resolves
// the host, keeps the pairs of destination and uplink whose families match, lets a strategy order the uplinks,
// makes attempts until one wins, and keeps account of the session that follows.
package dispatcher

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"dispatch/dispatcher/balance"
	"dispatch/dispatcher/policy"
	"dispatch/dispatcher/relay"
	"dispatch/dispatcher/uplink"
)

// connectTimeout bounds all attempts of one request together. Line failures are overtaken long before; this is
// for a destination that answers through no line.
const connectTimeout = 30 * time.Second

// Config is what a Dispatcher is made of.
type Config struct {
	// Fleet is the lines to choose from.
	Fleet *uplink.Fleet
	// Resolver turns names into addresses.
	Resolver Resolver
	// Policy judges destinations; nil means policy.Local, without listeners to protect.
	Policy Policy
	// Bands tells which lines are tried only after others; nil: all stand equal.
	Bands balance.Bands
	// Strategy orders the lines of a band for requests whose profile has none; nil means balance.WeightedRoundRobin.
	Strategy balance.Strategy
	// Observer learns what comes of attempts; nil: nobody does.
	Observer Observer
	// Sinks are told of the sessions, besides the log.
	Sinks []Sink
	// Logger takes the closing records and the failures of attempts; nil discards them.
	Logger *slog.Logger
	// ConnectTimeout bounds all attempts of one request together; 0 means 30 s.
	ConnectTimeout time.Duration
}

// Dispatcher is what all listeners funnel into. Safe for concurrent use.
type Dispatcher struct {
	fleet    *uplink.Fleet
	resolver Resolver
	policy   Policy
	bands    balance.Bands
	strategy balance.Strategy
	observer Observer // nil: none
	sinks    []Sink
	log      *slog.Logger
	timeout  time.Duration
	ledger   ledger
	warnings warnings
	setbacks setbacks
	made     time.Time
	latest   atomic.Pointer[uplink.View] // what ResetStranded was last called with; nil before
	relays   *relay.Engine
}

// New makes a Dispatcher.
func New(c Config) *Dispatcher {
	d := &Dispatcher{
		fleet: c.Fleet, resolver: c.Resolver, policy: c.Policy, bands: c.Bands, strategy: c.Strategy, observer: c.Observer,
		log: c.Logger, timeout: c.ConnectTimeout, made: time.Now(), relays: relay.NewEngine(),
	}
	if d.policy == nil {
		d.policy = new(policy.Local)
	}
	if d.bands == nil {
		d.bands = balance.Equal{}
	}
	if d.strategy == nil {
		d.strategy = new(balance.WeightedRoundRobin)
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.sinks = append([]Sink{recordLog{d.log}}, c.Sinks...)
	if d.timeout == 0 {
		d.timeout = connectTimeout
	}
	return d
}

// Dial serves a request whose bytes are to be relayed: it connects to the host through the uplink whose turn it is,
// or through another if that one fails or is slow. The session starts now and ends, with its one closing record,
// when the caller closes the connection or has it relayed; a failed Dial has written that record already.
// Errors are *Error.
func (d *Dispatcher) Dial(ctx context.Context, req Request) (*Conn, error) {
	s := d.Begin(req)
	conn, err := d.dial(ctx, s)
	if err != nil {
		s.End(err)
		return nil, err
	}
	conn.Serve(s)
	conn.owned = s
	return conn, nil
}

func (d *Dispatcher) dial(ctx context.Context, s *Session) (*Conn, error) {
	route, err := d.Route(ctx, &s.Request)
	if err != nil {
		return nil, err
	}
	return d.Connect(ctx, route, s)
}
