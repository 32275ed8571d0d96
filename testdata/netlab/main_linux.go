package netlab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// reportFD is where a process that enters the lab finds the pipe to tell its parent "ready" or why not.
const (
	reportFD = 3
	ready    = "ready"
)

// enter makes the process the client machine and runs m there, or has another process do so.
func enter(m TestingM) int {
	// The main thread's namespace: onOwnThread never moves the main thread.
	here, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return runOutside(m, fmt.Sprintf("reading this process's network namespace: %v", err))
	}
	switch os.Getenv(stateEnv) {
	case stateInside + here:
		return m.Run()
	case stateEntering:
		return arrive(m, here)
	}
	var reasons []string
	for _, way := range ways() {
		code, err := reexec(way)
		if err == nil {
			return code
		}
		reasons = append(reasons, err.Error())
	}
	return runOutside(m, strings.Join(reasons, "; "))
}

// ways lists the process attributes that put a child into a new network namespace, best first. The mount
// namespace is for /sys, whose content depends on the namespace it was mounted from.
func ways() []*syscall.SysProcAttr {
	asUser := &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   unix.SIGKILL,
	}
	if os.Geteuid() != 0 {
		return []*syscall.SysProcAttr{asUser}
	}
	asRoot := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	return []*syscall.SysProcAttr{asRoot, asUser} // root in a container may lack the right to do it the first way
}

// reexec runs this process's binary again in namespaces of its own, with the same arguments and standard streams,
// and returns its exit code. The error says that no test was run, and why.
func reexec(attr *syscall.SysProcAttr) (int, error) {
	how := "making a network namespace"
	if attr.Cloneflags&unix.CLONE_NEWUSER != 0 {
		how = "making a user and a network namespace"
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", how, err)
	}
	defer r.Close()

	// The child must die with this process, but Pdeathsig is about the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	// "go test" ends a stuck test binary with SIGQUIT to get its stacks: they are the child's.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)
	defer signal.Stop(signals)

	cmd := &exec.Cmd{
		Path:        "/proc/self/exe", // os.Args[0] may be relative to a directory that we have left
		Args:        os.Args,
		Env:         append(os.Environ(), stateEnv+"="+stateEntering),
		Stdin:       os.Stdin,
		Stdout:      os.Stdout,
		Stderr:      os.Stderr,
		ExtraFiles:  []*os.File{w},
		SysProcAttr: attr,
	}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", how, err)
	}
	forwarded := make(chan struct{})
	exited := make(chan struct{})
	go forward(signals, cmd.Process, exited, forwarded)

	report, readErr := io.ReadAll(r)
	waitErr := cmd.Wait()
	close(exited)
	<-forwarded

	var status *exec.ExitError
	switch {
	case string(report) != ready:
		return 0, fmt.Errorf("%s: the process inside could not set itself up: %w", how,
			errors.Join(errors.New(string(report)), readErr, waitErr))
	case waitErr != nil && !errors.As(waitErr, &status):
		fmt.Fprintf(os.Stderr, "netlab: waiting for the tests: %v\n", waitErr)
		return 1, nil
	}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		fmt.Fprintf(os.Stderr, "netlab: the test process was ended by a signal: %v\n", ws.Signal())
		return 128 + int(ws.Signal()), nil // as a shell reports it
	}
	return cmd.ProcessState.ExitCode(), nil
}

// forward passes signals on to p until exited is closed.
func forward(signals <-chan os.Signal, p *os.Process, exited <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	for {
		select {
		case s := <-signals:
			if err := p.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
				fmt.Fprintf(os.Stderr, "netlab: passing %v on to the tests: %v\n", s, err)
			}
		case <-exited:
			return
		}
	}
}

// arrive is the first thing a process does in its new namespaces: it sets them up, tells its parent, and runs m.
func arrive(m TestingM, here string) int {
	unix.CloseOnExec(reportFD)
	pipe := os.NewFile(reportFD, "report to the parent process")
	report := ready
	err := errors.Join(furnish(), os.Setenv(stateEnv, stateInside+here))
	if err != nil {
		report = err.Error()
	}
	if _, err := io.WriteString(pipe, report); err != nil {
		fmt.Fprintf(os.Stderr, "netlab: %v\n", err)
		return 1
	}
	if err := pipe.Close(); err != nil {
		fmt.Fprintf(os.Stderr, "netlab: %v\n", err)
		return 1
	}
	if report != ready {
		return 1
	}
	return m.Run()
}

// furnish turns fresh namespaces into a usable machine without a network: a /sys of its own, a /run to write
// in, loopback up. It also makes and deletes a pair of interfaces, because some systems allow the namespaces and then
// nothing inside them.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting a /sys that shows this network namespace: %w", err)
	}
	// Root of a namespace of its own only has no right to the /run of all, as root has.
	if unix.Access("/run", unix.W_OK) != nil {
		if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mounting a /run that can be written in: %w", err)
		}
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("opening a netlink socket: %w", err)
	}
	defer nl.Close()
	if err := loopbackUp(nl); err != nil {
		return err
	}
	trial := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "trial1"}
	trial.Name = "trial0"
	if err := nl.LinkAdd(trial); err != nil {
		return fmt.Errorf("making a veth pair: %w", err)
	}
	if err := nl.LinkDel(trial); err != nil {
		return fmt.Errorf("deleting a veth pair: %w", err)
	}
	return nil
}

func loopbackUp(nl *netlink.Handle) error {
	lo, err := nl.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("finding loopback: %w", err)
	}
	if err := nl.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bringing loopback up: %w", err)
	}
	return nil
}
