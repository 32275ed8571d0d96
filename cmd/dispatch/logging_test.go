package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/lmittmann/tint"
)

func TestLogGoesToItsFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "deep", "dispatch.log")
	var out, err bytes.Buffer
	log, openErr := openLog(terminal{&out, &err}, false, file, slog.LevelInfo)
	if openErr != nil || log.where != file {
		t.Fatalf("%+v, %v", log, openErr)
	}
	log.logger.Debug("not this")
	log.logger.Info("this", "duration", 1500*time.Millisecond, "host", "a\x1b[31mb")
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	text, readErr := os.ReadFile(file)
	if readErr != nil {
		t.Fatal(readErr)
	}
	var record map[string]any
	if err := json.Unmarshal(text, &record); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if record["msg"] != "this" || record["duration"] != "1.5s" || bytes.ContainsRune(text, 0x1b) {
		t.Errorf("the log holds %s", text)
	}
	if out.Len()+err.Len() != 0 {
		t.Errorf("printed %q, %q", out.String(), err.String())
	}
}

func TestDebugGoesToStandardOutput(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "dispatch.log")
	var out bytes.Buffer
	log, err := openLog(terminal{&out, &bytes.Buffer{}}, true, file, slog.LevelError)
	if err != nil {
		t.Fatal(err)
	}
	log.logger.Debug("details", "n", 1)
	if err := log.Close(); err != nil || !strings.Contains(out.String(), "details n=1") {
		t.Errorf("%q, %v", out.String(), err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was made: %v", err)
	}
}

// Where no file can be written the log goes to standard error, and the user is told; a file the user named must work.
func TestLogWithoutAFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Setenv("LocalAppData", "")
	} else {
		blocked := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(blocked, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("XDG_STATE_HOME", blocked)
		t.Setenv("HOME", blocked)
	}
	var stderr bytes.Buffer
	to := terminal{&bytes.Buffer{}, &stderr}
	log, err := openLog(to, false, "", slog.LevelInfo)
	if err != nil || !strings.HasPrefix(log.where, "standard error, for the log file cannot be written: ") {
		t.Fatalf("%+v, %v", log, err)
	}
	log.logger.Info("here")
	if !strings.Contains(stderr.String(), "here") {
		t.Errorf("standard error has %q", stderr.String())
	}
	if _, err := openLog(to, false, filepath.Join(t.TempDir(), "a\x00b"), slog.LevelInfo); err == nil || !strings.Contains(err.Error(), "--log-file") {
		t.Errorf("a file that cannot be: %v", err)
	}
}

// tint passes control characters in values through to the terminal, where they would steer it.
func TestControlsAreEscapedOnTheTerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(tint.NewTextHandler(&out, &tint.Options{ReplaceAttr: escapeControls}))
	log.Info("message", "host", "evil\x1b]0;title\x07\r\nforged", "error", errors.New("x\x1b[2J"), "addr", stringer{}, "n", 1, "stack", "a\nb")
	got := out.String()
	for _, raw := range []string{"\x1b]", "\x1b[2J", "\x07", "\r", "\nforged"} {
		if strings.Contains(got, raw) {
			t.Errorf("%q is in the output %q", raw, got)
		}
	}
	for _, want := range []string{`evil\x1b]0;title`, `x\x1b[2J`, `s\x00`} {
		if !strings.Contains(strings.ReplaceAll(got, `\\`, `\`), want) {
			t.Errorf("%q is not in the output %q", want, got)
		}
	}
}

type stringer struct{}

func (stringer) String() string { return "s\x00" }

func TestParseLevel(t *testing.T) {
	t.Parallel()
	if l, err := parseLevel("DEBUG"); err != nil || l != slog.LevelDebug {
		t.Errorf("%s, %v", l, err)
	}
	if _, err := parseLevel("loud"); err == nil {
		t.Error("a level that does not exist was taken")
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"-h"}, exitOK},
		{[]string{"-V"}, exitOK},
		{nil, exitOK},
		{[]string{"list", "--all"}, exitOK},
		{[]string{"start", "--nonsense"}, exitUsage},
		{[]string{"nonsense"}, exitUsage},
		{[]string{"start", "eth0@0"}, exitUsage},
		{[]string{"start", "nothing-of-that-name"}, exitUsage},
		{[]string{"start", "--socks", "off", "--http", "off"}, exitUsage},
		{[]string{"start", "--log-file", filepath.Join(file, "below"), "127.0.0.1"}, exitFailure},
	} {
		var out, err bytes.Buffer
		if got := run(c.args, terminal{&out, &err}); got != c.want {
			t.Errorf("%q ended with %d, want %d: %s", c.args, got, c.want, err.String())
		}
		if (c.want == exitOK) != (err.Len() == 0) {
			t.Errorf("%q printed to standard error: %q", c.args, err.String())
		}
	}
}
