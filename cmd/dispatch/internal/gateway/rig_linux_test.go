package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dispatch/cmd/dispatch/internal/config"
	"dispatch/testdata/netlab"
	"dispatch/testdata/world"
)

// running is a gateway in this process, with a client that asks through it.
type running struct {
	*Gateway
	*world.Client
	log   *records
	lab   *netlab.Lab
	first int    // its lines begin with this one of the lab's
	socks string // where it listens
}

// begin starts a gateway of these lines of a lab, and of what flags say further, until t ends.
func begin(t *testing.T, lab *netlab.Lab, first int, flags config.Flags) *running {
	t.Helper()
	flags.SOCKS, flags.HTTP, flags.IP, flags.HandshakeTimeout = []string{":0"}, []string{":0"}, "127.0.0.1", 10*time.Second
	c, err := flags.Config()
	if err != nil {
		t.Fatal(err)
	}
	r := &running{log: &records{changed: make(chan struct{})}, lab: lab, first: first}
	lines, err := ChooseLines(c.Uplinks)
	if err != nil {
		t.Fatal(err)
	}
	if r.Gateway, err = New(c, lines, slog.New(slog.NewJSONHandler(r.log, nil))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log, but sessions that ended well:\n%.8000s", r.log.telling())
		}
	})
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := r.State().Listeners
	r.socks = at[0].Addr.String()
	r.Client = world.NewClient(t, r.socks, at[1].Addr.String())
	return r
}

// ask asks by SOCKS5 and gives up after a while.
func (r *running) ask(t *testing.T, within time.Duration, host string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	_, err := r.Ask(ctx, world.SOCKS5, host)
	return err
}

// exactShares is Client.ExactShares of the running gateway.
func (r *running) exactShares(t *testing.T, by world.Protocol, host string, want [3]int) {
	t.Helper()
	r.ExactShares(t, r.lab, r.first, by, host, want, r.log.String)
}

// records is a log that tests wait for.
type records struct {
	mu      sync.Mutex
	all     []string
	changed chan struct{} // closed, and another, with each record
}

// Write takes one record.
func (l *records) Write(record []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(record))
	close(l.changed)
	l.changed = make(chan struct{})
	return len(record), nil
}

// now returns the records, and what is closed when there is another.
func (l *records) now() ([]string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all, l.changed
}

func (l *records) String() string {
	all, _ := l.now()
	return strings.Join(all, "")
}

// telling leaves out what a log holds by the hundred, and which explains no failure.
func (l *records) telling() string {
	all, _ := l.now()
	return strings.Join(slices.DeleteFunc(slices.Clone(all), func(record string) bool {
		return strings.Contains(record, `"session closed"`) && strings.Contains(record, `"class":""`)
	}), "")
}

// when returns the time of the first record since then with all of the texts, and waits for it.
func (l *records) when(t *testing.T, since time.Time, texts ...string) time.Time {
	t.Helper()
	late := time.After(15 * time.Second)
	for seen := 0; ; {
		all, changed := l.now()
		for ; seen < len(all); seen++ {
			if slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(all[seen], text) }) {
				continue
			}
			var record struct{ Time time.Time }
			if err := json.Unmarshal([]byte(all[seen]), &record); err != nil {
				t.Fatal(err)
			}
			if !record.Time.Before(since) {
				return record.Time
			}
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("the log has no record with %q since %s", texts, since)
		}
	}
}

// readLine reads to the end of a line and no further.
func readLine(c io.Reader) (string, error) {
	var line []byte
	for {
		var b [1]byte
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return "", errors.Join(err, errors.New("in the middle of a line"))
		}
		if b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[0])
	}
}
