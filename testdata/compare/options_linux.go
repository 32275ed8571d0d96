package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// errHelp is returned when help was asked for, and has been given.
var errHelp = flag.ErrHelp

// maxIdle keeps a proxy that uses two descriptors a session below the usual limit of 20,000.
const maxIdle = 9000

// options is what the user chose.
type options struct {
	rounds   int
	only     []string
	tests    []string
	binaries []program
	dispatch string
	user     string
	markdown string

	bytes    int64
	conns    int
	trips    int
	requests int
	idle     int
	limit    time.Duration
}

// program is one that the user wants compared.
type program struct {
	name string
	argv []string // {socks} and {http} stand for addresses
}

func parseOptions(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	f.SetOutput(os.Stderr)
	f.IntVar(&o.rounds, "rounds", 5, "measure everything this often")
	f.Func("only", "compare these contenders only, by name, separated by commas", list(&o.only))
	f.Func("tests", "run these tests only: "+strings.Join(testNames(), ", "), list(&o.tests))
	f.Func("binary", "compare this too: 'NAME=PATH ARGUMENTS', where {socks} and {http} stand for addresses; may be repeated", func(s string) error {
		b, err := parseBinary(s)
		o.binaries = append(o.binaries, b)
		return err
	})
	f.StringVar(&o.dispatch, "dispatch", "", "compare this binary instead of one built from the module")
	f.StringVar(&o.user, "user", "", "run dispatch and each -binary a second time, as this user, to see what limits for ordinary users do")
	f.StringVar(&o.markdown, "markdown", "", "write the tables to this file too")
	f.Int64Var(&o.bytes, "bytes", 512<<20, "bytes of one measurement of throughput")
	f.IntVar(&o.conns, "conns", 4000, "connections of one measurement of their rate")
	f.IntVar(&o.trips, "trips", 5000, "round trips of one measurement")
	f.IntVar(&o.requests, "requests", 10000, "HTTP requests of one measurement")
	f.IntVar(&o.idle, "idle", 1000, fmt.Sprintf("idle sessions, at most %d", maxIdle))
	f.DurationVar(&o.limit, "limit", 5*time.Second, "end a measurement after this time and count what was done")
	if err := f.Parse(args); err != nil {
		return options{}, err
	}
	err := o.check(f.Args())
	return o, err
}

func (o *options) check(rest []string) error {
	if len(rest) > 0 {
		return fmt.Errorf("%q is left over; all arguments are flags, see -help", rest)
	}
	for _, n := range []struct {
		flag       string
		value, max int64
	}{
		{"rounds", int64(o.rounds), 1000}, {"bytes", o.bytes, 1 << 40}, {"conns", int64(o.conns), 20000}, {"trips", int64(o.trips), 1e6},
		{"requests", int64(o.requests), 1e6}, {"idle", int64(o.idle), maxIdle}, {"limit", int64(o.limit), int64(time.Minute)},
	} {
		if n.value < 1 || n.value > n.max {
			return fmt.Errorf("-%s: %d is out of range; give 1 to %d", n.flag, n.value, n.max)
		}
	}
	for _, name := range o.tests {
		if !slices.Contains(testNames(), name) {
			return fmt.Errorf("-tests: %q is not a test; there are %s", name, strings.Join(testNames(), ", "))
		}
	}
	if o.user != "" && os.Geteuid() != 0 {
		return errors.New("-user: only root can run programs as another user")
	}
	return nil
}

func list(to *[]string) func(string) error {
	return func(s string) error {
		for _, name := range strings.Split(s, ",") {
			if name = strings.TrimSpace(name); name != "" {
				*to = append(*to, name)
			}
		}
		return nil
	}
}

func parseBinary(s string) (program, error) {
	name, command, _ := strings.Cut(s, "=")
	argv := strings.Fields(command)
	switch {
	case name == "" || len(argv) == 0:
		return program{}, fmt.Errorf("%q is not NAME=PATH ARGUMENTS", s)
	case !strings.Contains(command, "{socks}") && !strings.Contains(command, "{http}"):
		return program{}, fmt.Errorf("%q names no address to listen on; write {socks} or {http} where it belongs", s)
	}
	return program{name, argv}, nil
}
