package main

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// report returns the results as Markdown.
func (b *bench) report() string {
	var w strings.Builder
	b.writeAbout(&w)
	b.writeSummary(&w)
	for _, t := range b.tests {
		b.writeTest(&w, t)
	}
	b.writeFailures(&w)
	return w.String()
}

func (b *bench) writeAbout(w *strings.Builder) {
	fmt.Fprintf(w, "Rounds: %d. Machine: %s. Load: %d MB a measurement of throughput, %d connections, %d round trips, %d requests, %d idle sessions, %s at most.\n\n",
		b.o.rounds, machine(), b.o.bytes/1e6, b.o.conns, b.o.trips, b.o.requests, b.o.idle, b.o.limit)
	var versions []string
	for _, c := range b.field[1:] {
		if c.by.version != "" && c.by.name == c.name {
			versions = append(versions, c.name+" "+c.by.version)
		}
	}
	if len(versions) > 0 {
		fmt.Fprintf(w, "Rivals: %s.\n\n", strings.Join(versions, ", "))
	}
}

// machine describes what this runs on.
func machine() string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel := "unknown"
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		// Without what a distributor has added.
		kernel, _, _ = strings.Cut(unix.ByteSliceToString(name.Release[:]), "-")
	}
	return fmt.Sprintf("%s, %d cores; Linux %s; %s", model, runtime.NumCPU(), kernel, runtime.Version())
}

// columns are the shown figures of a metric: the values themselves, and what they are of direct.
func columns(m metric) []column {
	own := column{m.name, m.format, func(p pair, i int) float64 { return p.own[i] }}
	switch m.against {
	case minus:
		own.value = func(p pair, i int) float64 { return p.own[i] - p.direct[i] }
	case share:
		return []column{own, {m.name + ", of direct", "%.2f", func(p pair, i int) float64 { return p.own[i] / p.direct[i] }}}
	}
	return []column{own}
}

type column struct {
	name, format string
	value        func(p pair, metric int) float64
}

// of returns the column's values over all rounds.
func (c column) of(r *result, metric int) spread {
	values := make([]float64, 0, len(r.pairs))
	for _, p := range r.pairs {
		if v := c.value(p, metric); !math.IsNaN(v) {
			values = append(values, v)
		}
	}
	return spreadOf(values)
}

// spread is the middle and the ends of some values; all NaN for none.
type spread struct{ median, min, max float64 }

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{math.NaN(), math.NaN(), math.NaN()}
	}
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	median := sorted[half]
	if len(sorted)%2 == 0 {
		median = (sorted[half-1] + median) / 2
	}
	return spread{median, sorted[0], sorted[len(sorted)-1]}
}

// text shows the median and the range; a dash for no values.
func (s spread) text(format string) string {
	if math.IsNaN(s.median) {
		return "-"
	}
	return fmt.Sprintf(format+" ("+format+"-"+format+")", s.median, s.min, s.max)
}

func (s spread) short(format string) string {
	if math.IsNaN(s.median) {
		return "-"
	}
	return fmt.Sprintf(format, s.median)
}

// writeSummary writes the most telling medians, a row for each figure.
func (b *bench) writeSummary(w *strings.Builder) {
	w.WriteString("### Summary (medians)\n\n")
	header := []string{""}
	for _, c := range b.field[1:] {
		header = append(header, c.name)
	}
	writeHeader(w, header)
	for _, t := range b.tests {
		for i, m := range t.metrics {
			if m.summary == "" {
				continue
			}
			cols := columns(m)
			col := cols[len(cols)-1]
			row := []string{m.summary}
			for _, c := range b.field[1:] {
				row = append(row, col.of(b.result(t, c), i).short(col.format))
			}
			writeRow(w, row)
		}
	}
	w.WriteString("\n")
}

func (b *bench) result(t test, c *contender) *result {
	return cmp.Or(b.results[t.name][c.name], new(result))
}

// writeTest writes all figures of one test, a row for each contender.
func (b *bench) writeTest(w *strings.Builder, t test) {
	fmt.Fprintf(w, "### %s\n\n%s\n\n", t.title, t.about)
	header := []string{"median (range)"}
	for _, m := range t.metrics {
		for _, col := range columns(m) {
			header = append(header, col.name)
		}
	}
	writeHeader(w, header)
	for _, c := range b.field {
		r := b.result(t, c)
		if c.by == nil {
			r = b.directs(t)
		}
		if len(r.pairs) == 0 && len(r.failed) == 0 {
			continue // the test does not fit it
		}
		row := []string{c.name}
		for i, m := range t.metrics {
			for k, col := range columns(m) {
				if c.by == nil && (k > 0 || m.against == minus) {
					row = append(row, "-")
					continue
				}
				row = append(row, col.of(r, i).text(col.format))
			}
		}
		writeRow(w, row)
	}
	w.WriteString("\n")
}

// directs are all direct measurements of a test, whoever's neighbours they were.
func (b *bench) directs(t test) *result {
	all := new(result)
	for _, c := range b.field[1:] {
		for _, p := range b.result(t, c).pairs {
			all.pairs = append(all.pairs, pair{own: p.direct, direct: p.direct})
		}
	}
	return all
}

// writeFailures names what could not be measured: each reason once, with the tests that it spoiled.
func (b *bench) writeFailures(w *strings.Builder) {
	for _, c := range b.field[1:] {
		var reasons []string
		spoiled := make(map[string][]string)
		for _, t := range b.tests {
			for _, err := range b.result(t, c).failed {
				reason := err.Error()
				if !slices.Contains(reasons, reason) {
					reasons = append(reasons, reason)
				}
				if !slices.Contains(spoiled[reason], t.title) {
					spoiled[reason] = append(spoiled[reason], t.title)
				}
			}
		}
		for _, reason := range reasons {
			fmt.Fprintf(w, "- %s failed at least once (%s): %s\n", c.name, strings.Join(spoiled[reason], "; "), reason)
		}
	}
}

func writeHeader(w *strings.Builder, cells []string) {
	writeRow(w, cells)
	w.WriteString("|---" + strings.Repeat("|---:", len(cells)-1) + "|\n")
}

func writeRow(w *strings.Builder, cells []string) {
	w.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}
