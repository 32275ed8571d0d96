package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// atOnce is how many conversations are held at a time: most of their time is waiting.
const atOnce = 32

// TestConformance holds the program, as it is built, against the texts that it follows: clients that say what they may
// say, and what they may not, one after the other and all at once, and origins that do alike. What is not right yet
// stands in the tables with the issue that mends it, and has to be taken out when it is.
func TestConformance(t *testing.T) {
	g := gauntletFor(t)
	for _, table := range []struct {
		name  string
		cases []wire
	}{
		{"socks", socksCases()},
		{"requests", requestCases()},
		{"responses", responseCases()},
		{"own addresses", ownCases()},
	} {
		t.Run(table.name, func(t *testing.T) { g.hold(t, table.cases) })
	}
	t.Run("open listeners", ownByAnyAddress)
	t.Run("requests cut", g.cutRequests)
	t.Run("responses cut", g.cutResponses)
	g.audit(t)
}

// gauntletFor starts the program. Its line is of no use here: loopback is dialled direct.
func gauntletFor(t *testing.T, args ...string) *gauntlet {
	t.Helper()
	g := &gauntlet{sessions: make(map[string][2]int), names: make(map[string]string)}
	g.process = start(t, append(args, "127.0.0.1")...)
	// What the program opens once, for its first clients, is not to be taken for a leak.
	for _, w := range []wire{
		{name: "warm", send: "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", want: "200 ok; open | GET /"},
		{name: "warm", send: "\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01{P}ping", want: "method 0, granted, ping; closed | ping"},
	} {
		o := g.run(t, &w, false)
		if wrong := w.judge(o.String()); wrong != "" {
			t.Fatal(wrong)
		}
	}
	// The connections of these have ends yet to come.
	g.base = g.descriptors(t)
	for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		g.base = min(g.base, g.descriptors(t))
	}
	return g
}

// hold holds all conversations of a table, each in one piece and byte by byte.
func (g *gauntlet) hold(t *testing.T, cases []wire) {
	t.Helper()
	begin := time.Now()
	seen := make([][2]string, len(cases))
	together(2*len(cases), func(i int) {
		if w, bytewise := &cases[i/2], i%2 == 1; !bytewise || !w.whole {
			o := g.run(t, w, bytewise)
			seen[i/2][i%2] = o.String()
		}
	})
	known := 0
	for i := range cases {
		w := &cases[i]
		for way, how := range []string{"", ", byte by byte"} {
			if way == 1 && w.whole {
				continue
			}
			if wrong := w.judge(seen[i][way]); wrong != "" {
				t.Errorf("%s%s", wrong, how)
			}
		}
		if w.known != 0 {
			known++
		}
	}
	t.Logf("%d cases, of which %d are known not to be right, in %s", len(cases), known, time.Since(begin).Round(time.Millisecond))
}

// together does n things, a bounded number of them at once.
func together(n int, do func(int)) {
	turn := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i := range n {
		turn <- struct{}{}
		all.Go(func() {
			defer func() { <-turn }()
			do(i)
		})
	}
	all.Wait()
}

// audit looks at what the conversations have left: descriptors, records, words of distress.
func (g *gauntlet) audit(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(2 * wirePatience); g.descriptors(t) > g.base; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("%d descriptors are open, %d were before:\n%s", g.descriptors(t), g.base, g.describeDescriptors())
			break
		}
	}
	var wrong []string
	for end := time.Now().Add(wirePatience); ; time.Sleep(20 * time.Millisecond) {
		if wrong = g.miscounted(t); len(wrong) == 0 || time.Now().After(end) {
			break
		}
	}
	for i, w := range wrong {
		if i == 20 {
			t.Errorf("... and %d others", len(wrong)-i)
			break
		}
		t.Error(w)
	}
	// After all that it serves, and ends when it is told to.
	w := wire{name: "after all", send: "GET http://{o}/ HTTP/1.1\r\nHost: {o}\r\n\r\n", want: "200 ok; open | GET /"}
	if o := g.run(t, &w, false); o.String() != w.want {
		t.Error(w.judge(o.String()))
	}
	if runtime.GOOS != "windows" { // where no signal can be sent to another process
		g.signal(t, syscall.SIGINT)
		if code := g.wait(t); code != 0 {
			t.Errorf("dispatch ended with code %d", code)
		}
	}
	for _, word := range []string{"panic", "goroutine ", "DATA RACE"} {
		if text := g.text(); strings.Contains(text, word) {
			t.Errorf("dispatch printed %q:\n%s", word, text)
		}
	}
}

// descriptors is how many the program has open; 0 where the system does not tell.
func (g *gauntlet) descriptors(t *testing.T) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	open, err := os.ReadDir(g.descriptorDir())
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

func (g *gauntlet) descriptorDir() string { return fmt.Sprintf("/proc/%d/fd", g.cmd.Process.Pid) }

func (g *gauntlet) describeDescriptors() string {
	var all strings.Builder
	open, _ := os.ReadDir(g.descriptorDir())
	for _, d := range open {
		what, _ := os.Readlink(filepath.Join(g.descriptorDir(), d.Name()))
		all.WriteString(d.Name() + " " + what + "\n")
	}
	return all.String()
}

// miscounted holds the log's records of sessions against those that there have to be, client by client.
func (g *gauntlet) miscounted(t *testing.T) (wrong []string) {
	t.Helper()
	log, err := os.ReadFile(g.logFile)
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[string]int)
	for line := range strings.Lines(string(log)) {
		var record struct{ Level, Msg, Client string }
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			continue // it is being written
		}
		if record.Level == "ERROR" {
			wrong = append(wrong, "logged: "+line)
		}
		if record.Msg == "session closed" {
			count[record.Client]++
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for client, n := range count {
		if due, ok := g.sessions[client]; !ok {
			wrong = append(wrong, fmt.Sprintf("%d records of the client %s, which nobody was", n, client))
		} else if n > due[1] {
			wrong = append(wrong, fmt.Sprintf("%s: %d records of sessions, want at most %d", g.names[client], n, due[1]))
		}
	}
	for client, due := range g.sessions {
		if n := count[client]; n < due[0] {
			wrong = append(wrong, fmt.Sprintf("%s: %d records of sessions, want at least %d", g.names[client], n, due[0]))
		}
	}
	return wrong
}

// What judges has to be able to condemn: a wrong that nobody knows, one that is known and mended, one that has become
// another.
func TestJudge(t *testing.T) {
	t.Parallel()
	right, known := wire{want: "right or as right"}, wire{want: "right", known: 12, today: "wrong or as wrong"}
	for _, c := range []struct {
		w     *wire
		seen  string
		fails bool
	}{
		{&right, "right", false},
		{&right, "as right", false},
		{&right, "wrong", true},
		{&right, "", true},
		{&known, "wrong", false},
		{&known, "as wrong", false},
		{&known, "right", true},
		{&known, "otherwise wrong", true},
	} {
		if wrong := c.w.judge(c.seen); (wrong != "") != c.fails {
			t.Errorf("%+v judges %q: %q", *c.w, c.seen, wrong)
		}
	}
}
