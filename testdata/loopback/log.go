package loopback

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
)

// Log is a log that can be read while it is written. The zero value is an empty one.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write takes a record.
func (l *Log) Write(record []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(record)
}

// String is all of it.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Count is how often it has a text.
func (l *Log) Count(text string) int { return strings.Count(l.String(), text) }

// Logger writes to it, all levels, a JSON object a record.
func (l *Log) Logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
