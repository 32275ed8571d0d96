package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dispatch/testdata/loopback"
	"dispatch/testdata/world"
)

// process is a running `dispatch start`.
type process struct {
	*world.Client // that asks through it

	cmd         *exec.Cmd
	socks, http string // the addresses it listens on
	logFile     string

	mu     sync.Mutex
	output strings.Builder // both streams
	ended  chan struct{}
	err    error
}

// start runs `dispatch start` as its user would, on ports that are free, and waits until it listens.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	logFile := filepath.Join(t.TempDir(), "dispatch.log")
	p := launch(t, append([]string{"start", "--socks", ":0", "--http", ":0", "--log-file", logFile}, args...)...)
	p.logFile = logFile
	return p
}

// launch runs `dispatch` with these arguments and waits until it listens.
func launch(t *testing.T, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{ended: make(chan struct{})}
	p.cmd = exec.CommandContext(context.Background(), self)
	p.cmd.Args = append([]string{"dispatch"}, args...) // the name makes the test binary be the command
	p.cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+t.TempDir())
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	var readers sync.WaitGroup
	for _, r := range []io.Reader{stdout, stderr} {
		readers.Go(func() { p.read(r, ready) })
	}
	go func() {
		defer close(p.ended)
		readers.Wait()
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		<-p.ended
		if t.Failed() {
			log, err := []byte(nil), error(nil)
			if p.logFile != "" {
				log, err = os.ReadFile(p.logFile)
			}
			t.Logf("output of dispatch:\n%s\nlog, but sessions that ended well, %v:\n%.8000s", p.text(), err, telling(log))
		}
	})
	select {
	case <-ready:
	case <-p.ended:
		t.Fatalf("dispatch ended, %v:\n%s", p.err, p.text())
	case <-time.After(20 * time.Second):
		t.Fatalf("dispatch is not ready after 20 s:\n%s", p.text())
	}
	p.socks = find(t, p.text(), `socks +(\S+)`)
	p.http = find(t, p.text(), `http +(\S+)`)
	p.Client = world.NewClient(t, p.socks, p.http)
	return p
}

// telling leaves out what a log holds by the hundred, and which explains no failure.
func telling(log []byte) string {
	var rest strings.Builder
	for line := range strings.Lines(string(log)) {
		if !strings.Contains(line, `"session closed"`) || !strings.Contains(line, `"class":""`) {
			rest.WriteString(line)
		}
	}
	return rest.String()
}

func (p *process) read(r io.Reader, ready chan<- struct{}) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		p.mu.Lock()
		p.output.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
		if strings.HasPrefix(lines.Text(), "one connection uses one line") {
			close(ready)
		}
	}
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// signal sends a signal.
func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// wait waits for the end and returns the exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		t.Fatalf("dispatch has not ended after 20 s:\n%s", p.text())
	}
	return p.cmd.ProcessState.ExitCode()
}

// log returns what reads the log.
func (p *process) log(t *testing.T) func() string {
	return func() string {
		log, err := os.ReadFile(p.logFile)
		if err != nil {
			t.Fatal(err)
		}
		return string(log)
	}
}

// logged waits until the log holds so many records with all of the texts.
func (p *process) logged(t *testing.T, n int, texts ...string) {
	t.Helper()
	log := p.log(t)
	loopback.Eventually(t, fmt.Sprintf("%d records with %q", n, texts), func() bool { return count(log(), texts) == n })
}

// await waits until the log holds a record with all of the texts.
func (p *process) await(t *testing.T, texts ...string) {
	t.Helper()
	log := p.log(t)
	loopback.Eventually(t, fmt.Sprintf("a record with %q", texts), func() bool { return count(log(), texts) > 0 })
}

// count is how many records have all of the texts.
func count(log string, texts []string) int {
	n := 0
	for line := range strings.Lines(log) {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			n++
		}
	}
	return n
}

func find(t *testing.T, text, pattern string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("nothing matches %s in:\n%s", pattern, text)
	}
	return m[1]
}
