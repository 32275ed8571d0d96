package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	startWithin = 15 * time.Second
	stopWithin  = 5 * time.Second
)

// process is a program that this one started. It is usable until stop.
type process struct {
	name   string
	cmd    *exec.Cmd
	output string // the file that has what it printed
	ended  chan struct{}
	err    error // of its end; valid when ended is closed
}

// launch starts a program in a process group of its own. Its output goes to a file in dir.
func launch(name, dir string, as *identity, argv ...string) (*process, error) {
	p := &process{name: name, output: filepath.Join(dir, "output"), ended: make(chan struct{})}
	out, err := os.OpenFile(p.output, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	// Not with a context: its end must not kill what a measurement is still looking at.
	p.cmd = &exec.Cmd{
		Path: argv[0], Args: argv, Dir: dir, Stdout: out, Stderr: out,
		Env:         []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + dir},
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Credential: as.credential()},
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// start runs a proxy, and returns when it accepts connections everywhere it should.
func (p *proxy) start(ctx context.Context) (*process, error) {
	run, err := launch(p.name, p.home, p.as, p.argv...)
	if err != nil {
		return nil, err
	}
	if err := run.await(ctx, p.listens()); err != nil {
		return nil, errors.Join(err, run.stop())
	}
	return run, nil
}

// await returns when the process accepts connections on all addresses.
func (p *process) await(ctx context.Context, addresses []netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for _, at := range addresses {
		for {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp", at.String())
			if err == nil {
				if err := conn.Close(); err != nil {
					return err
				}
				break
			}
			select {
			case <-p.ended:
				return fmt.Errorf("%s ended before it listened on %s: %w; it said: %s", p.name, at, p.err, p.said())
			case <-ctx.Done():
				return fmt.Errorf("%s does not listen on %s after %s: %w; it said: %s", p.name, at, startWithin, err, p.said())
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return nil
}

// said returns the last of what the process printed, in one line.
func (p *process) said() string {
	const most = 300
	all, err := os.ReadFile(p.output)
	if err != nil {
		return err.Error()
	}
	words := bytes.Join(bytes.Fields(all), []byte{' '})
	return string(words[max(0, len(words)-most):])
}

// stop asks the process to end, and ends it and its process group where that is not heard.
func (p *process) stop() error {
	group := -p.cmd.Process.Pid
	if err := p.cmd.Process.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	select {
	case <-p.ended:
	case <-time.After(stopWithin):
	}
	// What it started may have outlived it. With nobody left in the group there is nothing to do.
	if err := unix.Kill(group, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end %s: %w", p.name, err)
	}
	<-p.ended
	return nil
}
