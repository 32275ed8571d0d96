package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// What the command is when it starts itself, as its first argument.
const (
	roleInside = "inside" // the comparison, in its namespaces: the directory and the user's arguments follow
	roleServe  = "serve"  // the server that the load goes to: its ports follow
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		var inside *exec.ExitError // it has said why
		if !errors.As(err, &inside) {
			fmt.Fprintf(os.Stderr, "compare: %v\n", err)
		}
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 1 && args[0] == roleServe {
		return serve(args[1:])
	}
	if len(args) > 1 && args[0] == roleInside {
		o, err := parseOptions(args[2:])
		if err != nil {
			return err
		}
		return inside(args[1], o)
	}
	o, err := parseOptions(args)
	switch {
	case errors.Is(err, errHelp):
		return nil
	case err != nil:
		return err
	}
	return outside(o, args)
}

// outside prepares what needs the machine as it is, then runs the comparison in namespaces of its own.
func outside(o options, args []string) (err error) {
	dir, err := os.MkdirTemp("", "compare-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { // proxies that give up root read their configuration here
		return err
	}
	if err := provideDispatch(o, dispatchIn(dir)); err != nil {
		return err
	}
	return reexec(append([]string{roleInside, dir}, args...))
}

func dispatchIn(dir string) string { return filepath.Join(dir, "dispatch-binary") }

// provideDispatch puts our own binary at path: the one the user names, or one built from the module.
func provideDispatch(o options, path string) error {
	if o.dispatch != "" {
		from, err := filepath.Abs(o.dispatch)
		if err != nil {
			return err
		}
		// A copy, because others than root may not be able to reach it where it is.
		binary, err := os.ReadFile(from)
		if err != nil {
			return fmt.Errorf("-dispatch: %w", err)
		}
		return os.WriteFile(path, binary, 0o755)
	}
	build := exec.CommandContext(context.Background(), "go", "build", "-o", path, "dispatch/cmd/dispatch")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build dispatch: %w; run this inside the module, or name a binary with -dispatch", err)
	}
	return nil
}

// inside runs the comparison, in the namespaces that reexec made.
func inside(dir string, o options) (err error) {
	if err := settle(); err != nil {
		return err
	}
	ctx, stop := interruptible()
	defer stop()
	b, err := newBench(ctx, dir, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	measured := b.measure(ctx)
	text := b.report()
	if _, err := os.Stdout.WriteString(text); err != nil {
		return errors.Join(measured, err)
	}
	if o.markdown != "" {
		if err := os.WriteFile(o.markdown, []byte(text), 0o644); err != nil {
			return errors.Join(measured, err)
		}
	}
	return measured
}

// raiseDescriptors lets this process and those it starts open as many descriptors as it may.
func raiseDescriptors() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of descriptors: %w", err)
	}
	limit.Cur = limit.Max
	// unix.Setrlimit, unlike what the runtime does at start, is passed on to children.
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise the limit of descriptors to %d: %w", limit.Max, err)
	}
	return nil
}
