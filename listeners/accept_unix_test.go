//go:build unix && !freebsd

package listeners

import (
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"dispatch/testdata/loopback"
)

// The accept loop must survive a process that is out of descriptors. The limit is the process's, so this runs in one
// of its own.
func TestAcceptSurvivesEMFILE(t *testing.T) {
	t.Parallel()
	if os.Getenv("DISPATCH_TEST_EMFILE") != "" {
		surviveEMFILE(t)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAcceptSurvivesEMFILE$", "-test.v")
	cmd.Env = append(os.Environ(), "DISPATCH_TEST_EMFILE=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func surviveEMFILE(t *testing.T) {
	var log loopback.Log
	_, at := startServer(t, Config{SOCKS: named("socks"), HTTP: named("http"), Logger: log.Logger()})
	first := loopback.Dial(t, at) // also sets up the poller before descriptors run out
	say(t, first, "\x05")
	if _, err := io.ReadAll(first); err != nil {
		t.Fatal(err)
	}
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	probe, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	// One more descriptor is allowed: the client's. The server has none for accepting it.
	low := old
	low.Cur = uint64(probe.Fd()) + 1
	if err := probe.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	c := loopback.Dial(t, at)
	say(t, c, "\x05")
	loopback.Eventually(t, "a warning", func() bool { return log.Count("accepting clients fails") > 0 })
	time.Sleep(20 * time.Millisecond) // some further tries
	if n := log.Count("accepting clients fails"); n != 1 {
		t.Errorf("warned %d times within a minute", n)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "socks:\x05" {
		t.Errorf("after descriptors were back: %q, %v", got, err)
	}
}
