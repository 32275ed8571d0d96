package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// event is one line of "go test -json"; see "go doc test2json" and "go help buildjson".
type event struct {
	Action  string
	Package string // empty in what is said about a build
	Test    string // empty in what is said about the whole package
	Output  string
	Elapsed float64 // seconds
}

// totals counts tests.
type totals struct{ passed, failed, skipped int }

func (t totals) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", t.passed, t.failed, t.skipped)
}

// test is what is known of one test, or of the package as a whole.
type test struct {
	outcome string // "pass", "fail" or "skip"; empty until it ends
	output  strings.Builder
}

// results are the tests of one package by name; the empty name stands for the package as a whole.
type results map[string]*test

const rule = "******************************************************************************"

// report turns events into a report on out.
type report struct {
	out      *bufio.Writer
	packages map[string]results // those that have not ended
	skips    []string           // one text for each skipped test
	sum      totals
}

// read writes a report of events to w, package by package as they end and the skipped tests once more at the end,
// and returns the totals. The error is one of reading events or of writing to w.
func read(events io.Reader, w io.Writer) (totals, error) {
	r := report{out: bufio.NewWriter(w), packages: map[string]results{}}
	lines := bufio.NewReader(events)
	var readErr error
	for readErr == nil {
		var line []byte
		line, readErr = lines.ReadBytes('\n')
		r.line(line)
	}
	if !errors.Is(readErr, io.EOF) {
		return r.sum, fmt.Errorf("reading the test events: %w", readErr)
	}
	r.end()
	if err := r.out.Flush(); err != nil { // a bufio.Writer remembers its first error
		return r.sum, fmt.Errorf("writing the report: %w", err)
	}
	return r.sum, nil
}

func (r *report) line(line []byte) {
	var e event
	switch {
	case json.Unmarshal(line, &e) != nil:
		r.print(string(line)) // not an event: "go test" itself says something
	case e.Package == "":
		r.print(e.Output)
	default:
		r.event(e)
	}
}

func (r *report) event(e event) {
	tests := r.packages[e.Package]
	if tests == nil {
		tests = results{}
		r.packages[e.Package] = tests
	}
	t := tests[e.Test]
	if t == nil {
		t = &test{}
		tests[e.Test] = t
	}
	switch e.Action {
	case "output":
		t.output.WriteString(e.Output)
	case "pass", "fail", "skip":
		t.outcome = e.Action
		if e.Test == "" {
			r.packageEnd(e, tests)
			delete(r.packages, e.Package)
		}
	}
}

func (r *report) packageEnd(e event, tests results) {
	var here totals
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		if name == "" || !tests.counts(name) {
			continue
		}
		t := tests[name]
		switch t.outcome {
		case "pass":
			here.passed++
		case "skip":
			here.skipped++
			r.skips = append(r.skips, fmt.Sprintf("SKIPPED %s %s\n%s", e.Package, name, t.said()))
		default: // failed, or did not end because its process did
			here.failed++
			r.print(fmt.Sprintf("FAILED %s %s\n%s", e.Package, name, t.said()))
		}
	}
	if e.Action == "fail" && here.failed == 0 {
		here.failed = 1
	}
	r.print(fmt.Sprintf("%s %s: %v, %.1f s\n%s", e.Action, e.Package, here, e.Elapsed, tests[""].said()))
	r.sum.passed += here.passed
	r.sum.failed += here.failed
	r.sum.skipped += here.skipped
	_ = r.out.Flush() // shown while other packages still run; the last Flush returns an error of this one
}

func (r *report) end() {
	for _, name := range slices.Sorted(maps.Keys(r.packages)) {
		r.print(fmt.Sprintf("FAILED %s: the events end before the package does\n", name))
		r.sum.failed++
	}
	if len(r.skips) > 0 {
		r.print(fmt.Sprintf("\n%s\nTESTS THAT DID NOT RUN: %d\n%s%s\n", rule, len(r.skips), strings.Join(r.skips, ""), rule))
	}
}

func (r *report) print(s string) {
	_, _ = r.out.WriteString(s) // the last Flush returns the error
}

// counts tells whether the named test is a case of its own. One with subtests is counted through them, unless its
// outcome is not theirs: it failed or was skipped itself.
func (tests results) counts(name string) bool {
	parent, own := false, tests[name].outcome != "pass"
	for other, t := range tests {
		if strings.HasPrefix(other, name+"/") {
			parent = true
			own = own && t.outcome != tests[name].outcome
		}
	}
	return !parent || own
}

// said returns what was printed, without the lines that only repeat what a report says anyway.
func (t *test) said() string {
	var b strings.Builder
	for line := range strings.Lines(t.output.String()) {
		if !repeats(line) {
			b.WriteString(line)
		}
	}
	return b.String()
}

func repeats(line string) bool {
	for _, prefix := range []string{"=== ", "ok  \t", "?   \t", "FAIL\t"} {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	line = strings.TrimSpace(line)
	return line == "PASS" || line == "FAIL" || strings.HasPrefix(line, "--- ")
}
