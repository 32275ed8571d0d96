// Command dispatch puts several internet connections to work at once: applications speak SOCKS or HTTP proxy to it,
// and every connection leaves through one of the machine's lines, in the proportion its user chose.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

// The exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// usageError is a mistake in what the user wrote, as against a failure of what the program tried.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }

// usagef makes a usageError.
func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// terminal is what the commands print to.
type terminal struct {
	out, err io.Writer
}

// commands is the grammar of the command line.
type commands struct {
	List    listCommand    `cmd:"" help:"List the interfaces that can be used as uplinks."`
	Start   startCommand   `cmd:"" help:"Start the gateway: proxy connections through the uplinks."`
	Explain explainCommand `cmd:"" help:"Tell which uplink a connection would leave by, and why."`
	Doctor  doctorCommand  `cmd:"" help:"Examine the lines: why one does not work, and what mends it."`
	Help    helpCommand    `cmd:"" help:"Show the help of a command."`

	Debug   bool             `short:"d" help:"Write debug logs to standard output instead of the log file."`
	Version kong.VersionFlag `short:"V" help:"Show the version and exit."`
}

type helpCommand struct {
	Command []string `arg:"" optional:"" help:"The command to explain."`
}

func main() { os.Exit(run(os.Args[1:], terminal{out: os.Stdout, err: os.Stderr})) }

// run is the program without its process.
func run(args []string, to terminal) int {
	var cli commands
	exited := -1
	parser, err := kong.New(&cli,
		kong.Name("dispatch"),
		kong.Description("Put several internet connections to work at once: a local SOCKS and HTTP proxy that sends every connection through one of this machine's lines, in the proportion you choose."),
		kong.Vars{"version": version()},
		kong.Writers(to.out, to.err),
		kong.Help(printHelp),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Exit(func(code int) {
			if exited < 0 {
				exited = code
			}
		}),
	)
	if err != nil {
		fmt.Fprintf(to.err, "dispatch: %v\n", err)
		return exitFailure
	}
	if len(args) == 0 {
		args = []string{"--help"}
	} else if args[0] == "help" {
		args = append(args[1:len(args):len(args)], "--help")
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 { // --help or --version has been served
		return exited
	}
	if err == nil {
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		parsed.BindTo(ctx, (*context.Context)(nil))
		err = parsed.Run(&cli, to)
	} else {
		err = &usageError{errors.New(lowerFirst(err.Error()) + "; see 'dispatch " + helpFor(args) + "-h'")}
	}
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(to.err, "dispatch: %v\n", err)
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	return exitFailure
}

// helpFor names the command that the arguments were meant for, with a space behind.
func helpFor(args []string) string {
	for _, a := range args {
		switch a {
		case "list", "start", "explain", "doctor":
			return a + " "
		}
	}
	return ""
}

// lowerFirst fits a library's error text to ours.
func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
