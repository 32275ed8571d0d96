package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"github.com/DeRuina/timberjack"
	"github.com/lmittmann/tint"
	"github.com/mattn/go-colorable"
	"golang.org/x/term"
)

// The bounds of the log files: enough for some days of a busy gateway.
const (
	logMegabytes = 10
	logBackups   = 5
)

// logging is an opened log.
type logging struct {
	logger *slog.Logger
	// where tells the user where the log goes.
	where  string
	closer io.Closer
}

// openLog opens the log: text on standard output with debug, else JSON in the file, else, where the file cannot be
// written, text on standard error.
func openLog(to terminal, debug bool, file string, level slog.Level) (*logging, error) {
	if debug {
		return &logging{logger: slog.New(textHandler(to.out, slog.LevelDebug)), where: "standard output"}, nil
	}
	if file == "-" {
		return &logging{logger: slog.New(textHandler(to.err, level)), where: "standard error"}, nil
	}
	chosen := file != ""
	var err error
	if !chosen {
		file, err = defaultLogFile()
	}
	if err == nil {
		err = prepareLogFile(file)
	}
	if err != nil {
		if chosen {
			return nil, fmt.Errorf("open the log file %s: %w; name another with --log-file, or - for standard error", file, err)
		}
		return &logging{
			logger: slog.New(textHandler(to.err, level)),
			where:  fmt.Sprintf("standard error, for the log file cannot be written: %v", err),
		}, nil
	}
	rotating := &timberjack.Logger{Filename: file, MaxSize: logMegabytes, MaxBackups: logBackups, FileMode: logMode}
	handler := slog.NewJSONHandler(rotating, &slog.HandlerOptions{Level: level, ReplaceAttr: plainDurations})
	return &logging{logger: slog.New(handler), where: file, closer: rotating}, nil
}

// Close ends the log; nothing can be logged any more.
func (l *logging) Close() error {
	if l.closer == nil {
		return nil
	}
	return l.closer.Close()
}

// logMode keeps the log private: it tells where its user goes.
const logMode = 0o600

func defaultLogFile() (string, error) {
	dir, err := stateDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "dispatch.log"), nil
}

// prepareLogFile makes sure that the file can be written, before anybody is told that the log goes there.
func prepareLogFile(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, logMode)
	if err != nil {
		return err
	}
	return f.Close()
}

// stackKey is the attribute of stack dumps, which are ours and have lines.
const stackKey = "stack"

// textHandler logs for people.
func textHandler(w io.Writer, level slog.Level) slog.Handler {
	colour := false
	if f, ok := w.(*os.File); ok && os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(f.Fd())) {
		colour, w = true, colorable.NewColorable(f)
	}
	return tint.NewTextHandler(w, &tint.Options{Level: level, NoColor: !colour, ReplaceAttr: escapeControls})
}

// escapeControls keeps what clients send from steering the terminal: tint passes values through as they are.
func escapeControls(_ []string, a slog.Attr) slog.Attr {
	if a.Key == stackKey {
		return a
	}
	var text string
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindString:
		text = v.String()
	case slog.KindAny:
		switch x := v.Any().(type) {
		case error:
			text = x.Error()
		case fmt.Stringer:
			text = x.String()
		default:
			return a
		}
	default:
		return a
	}
	if !strings.ContainsFunc(text, unprintable) {
		return a
	}
	return slog.String(a.Key, escape(text))
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

func escape(text string) string {
	quoted := strconv.Quote(text)
	return quoted[1 : len(quoted)-1]
}

// plainDurations gives durations as text with their unit; slog's JSON would be bare nanoseconds.
func plainDurations(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.String(a.Key, a.Value.Duration().String())
	}
	return a
}

// parseLevel reads --log-level.
func parseLevel(text string) (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(text)); err != nil {
		return 0, usagef("--log-level: %q is not a level; write debug, info, warn or error", text)
	}
	return level, nil
}

var errNoHome = errors.New("neither a state directory nor a home directory is known")
