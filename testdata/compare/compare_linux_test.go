package main

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain lets the test binary be what the command starts itself as.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == roleInside || os.Args[1] == roleServe) {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// TestCompare runs every test against dispatch and what is installed, with as little load as makes sense.
func TestCompare(t *testing.T) {
	if testing.Short() {
		t.Skip("builds dispatch and starts it and the installed rivals")
	}
	table := filepath.Join(t.TempDir(), "table.md")
	err := run([]string{
		"-rounds", "1", "-bytes", "20000000", "-conns", "20", "-trips", "20", "-requests", "20", "-idle", "20", "-markdown", table,
		"-only", "dispatch,dispatch+connect,haproxy",
	})
	if err != nil {
		t.Fatalf("it takes root or unprivileged user namespaces: %v", err)
	}
	text, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "failed at least once") {
		t.Errorf("a measurement failed:\n%s", text)
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, " | "); cells[0] == "| dispatch" {
			rows++
			if cells[1] == "-" {
				t.Errorf("dispatch has no figure: %s", line)
			}
		}
	}
	if rows != len(tests()) {
		t.Errorf("dispatch has a row in %d of %d tests:\n%s", rows, len(tests()), text)
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string // in the error; empty: none
	}{
		{nil, ""},
		{[]string{"-rounds", "3", "-tests", "connect, trip", "-only", "dispatch", "-binary", "x=/bin/x -l {socks}"}, ""},
		{[]string{"-rounds", "0"}, "-rounds"},
		{[]string{"-idle", "9001"}, "-idle"},
		{[]string{"-bytes", "-1"}, "-bytes"},
		{[]string{"-tests", "speed"}, `"speed" is not a test`},
		{[]string{"-binary", "x=/bin/x -l 1080"}, "names no address"},
		{[]string{"-binary", "=/bin/x {socks}"}, "NAME=PATH"},
		{[]string{"-binary", "x"}, "NAME=PATH"},
		{[]string{"stray"}, "left over"},
	} {
		o, err := parseOptions(c.args)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("parseOptions(%q): %v", c.args, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("parseOptions(%q): error %v, want one with %q", c.args, err, c.want)
		case c.want == "" && len(c.args) > 0 && (len(o.tests) != 2 || o.tests[1] != "trip" || len(o.binaries[0].argv) != 3):
			t.Errorf("parseOptions(%q) = %+v", c.args, o)
		}
	}
	if _, err := parseOptions([]string{"-help"}); !errors.Is(err, errHelp) {
		t.Errorf("-help gave %v", err)
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
		text   string
	}{
		{[]float64{3, 1, 2}, spread{2, 1, 3}, "2.0 (1.0-3.0)"},
		{[]float64{4, 1, 2, 3}, spread{2.5, 1, 4}, "2.5 (1.0-4.0)"},
		{[]float64{7}, spread{7, 7, 7}, "7.0 (7.0-7.0)"},
	} {
		got := spreadOf(c.values)
		if got != c.want || got.text("%.1f") != c.text {
			t.Errorf("spreadOf(%v) = %v, %q; want %v, %q", c.values, got, got.text("%.1f"), c.want, c.text)
		}
	}
	if got := spreadOf(nil).text("%.1f"); got != "-" {
		t.Errorf("no values are shown as %q", got)
	}
}

func TestColumns(t *testing.T) {
	p := pair{own: []float64{3, math.NaN()}, direct: []float64{4, 1}}
	r := &result{pairs: []pair{p}}
	for _, c := range []struct {
		against against
		metric  int
		want    []string
	}{
		{alone, 0, []string{"3.00"}},
		{share, 0, []string{"3.00", "0.75"}},
		{minus, 0, []string{"-1.00"}},
		{alone, 1, []string{"-"}},
	} {
		cols := columns(metric{format: "%.2f", against: c.against})
		if len(cols) != len(c.want) {
			t.Fatalf("against %d: %d columns, want %d", c.against, len(cols), len(c.want))
		}
		for i, col := range cols {
			if got := col.of(r, c.metric).short(col.format); got != c.want[i] {
				t.Errorf("against %d, column %d: %s, want %s", c.against, i, got, c.want[i])
			}
		}
	}
}

func TestParseSlabs(t *testing.T) {
	k, err := parseSlabs([]byte("slabinfo - version: 2.1\n# name <active_objs>\n" +
		"TCP 10 12 2368 13 8 : tunables 0 0 0\nTCPv6 1 1 2496 13\ntw_sock_TCP 1000 1000 256 16\nfilp 100 120 192 21\ndentry 1000 1000 192 21\n" +
		"kmalloc-cg-64 2 3 64 64\nkmalloc-64 1000 1000 64 64\ntask_struct 5 5 4096 8\n"))
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(10*2368 + 2496 + 100*192 + 2*64); k.sessions != want {
		t.Errorf("sessions take %d bytes, want %d", k.sessions, want)
	}
	if want := int64(kernelStack + 4096); k.thread != want {
		t.Errorf("a thread takes %d bytes, want %d", k.thread, want)
	}
	if _, err := parseSlabs([]byte("TCP many 12 2368 13\n")); err == nil {
		t.Error("nonsense was taken for a count")
	}
}

func TestIdleFigures(t *testing.T) {
	before := look{holding{1000 << 10, 8 << 10, 5, 20}, kernelMemory{sessions: 1 << 20, thread: 16 << 10}}
	during := look{holding{1800 << 10, 18 << 10, 6, 220}, kernelMemory{sessions: 1<<20 + 700<<10, thread: 16 << 10}}
	first := look{holding{2000 << 10, 18 << 10, 6, 220}, kernelMemory{}}
	got := perSession(before, first, during, 100, false, 3, 4)
	for i, want := range []float64{8, 10, 7.26, 2, 3, 4} {
		if math.Abs(got[i]-want) > 1e-9 {
			t.Errorf("figure %d is %v, want %v", i, got[i], want)
		}
	}
}

// TestUsage looks at a process with children as if it were a proxy.
func TestUsage(t *testing.T) {
	sleeper, err := launch("sleeper", t.TempDir(), nil, "/bin/sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep 60 & sleep 60")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := sleeper.stop(); err != nil {
			t.Error(err)
		}
	}()
	for { // until the loop is done and both children run: the test's own time limit ends it otherwise
		family, err := sleeper.family()
		if err != nil {
			t.Fatal(err)
		}
		if len(family) == 3 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if cpu, err := sleeper.cpu(); err != nil || cpu <= 0 {
		t.Errorf("CPU time %v, error %v", cpu, err)
	}
	has, err := sleeper.holds()
	if err != nil {
		t.Fatal(err)
	}
	if has.threads != 3 || has.descriptors < 9 || has.resident <= 0 || has.pageTables <= 0 {
		t.Errorf("it holds %+v", has)
	}
}
