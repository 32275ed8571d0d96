package netlab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// childEnv names the part that a process plays that a test here has started from its own binary.
const childEnv = "NETLAB_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "report":
		goleak.VerifyTestMain(Wrap(child(report)))
	case "wait":
		os.Exit(Wrap(child(waitLong)).Run())
	case "testscript":
		testscript.Main(Wrap(child(askCommand)), map[string]func(){"whereami": func() { fmt.Print(ownNet()) }})
	case "forbidden":
		for _, kind := range []string{"user", "net"} {
			if err := os.WriteFile("/proc/sys/user/max_"+kind+"_namespaces", []byte("0"), 0); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
		os.Exit(Wrap(m).Run())
	}
	goleak.VerifyTestMain(Wrap(m))
}

// child is a TestingM that runs a function in place of tests.
type child func() int

func (c child) Run() int { return c() }

func ownNet() string {
	link, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err.Error()
	}
	return link
}

func report() int {
	fmt.Printf("%s\n%q\n", ownNet(), os.Args[1:])
	if _, err := io.Copy(os.Stderr, os.Stdin); err != nil {
		fmt.Println(err)
	}
	return 7
}

func waitLong() int {
	fmt.Println("waiting")
	time.Sleep(time.Minute)
	return 0
}

// askCommand runs a testscript command without the environment that could tell it where it is, as testscript does.
func askCommand() int {
	cmd := exec.CommandContext(context.Background(), "whereami")
	cmd.Env = []string{childEnv + "=testscript", "GORACE=" + os.Getenv("GORACE")}
	out, err := cmd.Output()
	fmt.Printf("%s\n%s\n%v\n", ownNet(), out, err)
	return 0
}

// again prepares another process of this test binary, as "go test" would start it.
func again(t *testing.T, part string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, stateEnv+"=") || strings.HasPrefix(kv, RequireEnv+"=")
	})
	// The race detector has each process of the chain wait for a second before it exits, unless told otherwise.
	cmd.Env = append(cmd.Env, childEnv+"="+part, "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	return cmd
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit == nil {
		return 0
	}
	return exit.ExitCode()
}

func TestArgumentsStreamsAndExitCodeAreThoseOfTheTests(t *testing.T) {
	Require(t)
	t.Parallel() // the labs are those of other processes
	for _, inherit := range []bool{false, true} {
		cmd := again(t, "report", "-x", "y z")
		if inherit { // as a fuzz worker does
			cmd.Env = append(cmd.Env, stateEnv+"="+os.Getenv(stateEnv))
		}
		var stdout, stderr strings.Builder
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("hello"), &stdout, &stderr
		code := exitCode(t, cmd.Run())
		where, args, _ := strings.Cut(stdout.String(), "\n")
		if code != 7 || args != `["-x" "y z"]`+"\n" || stderr.String() != "hello" {
			t.Errorf("exit code %d, arguments %q, standard error %q", code, args, stderr.String())
		}
		if inside := where == ownNet(); inside != inherit || !strings.HasPrefix(where, "net:[") {
			t.Errorf("inherited %v: it was in %s, this process is in %s", inherit, where, ownNet())
		}
	}
}

func TestTestscriptCommandsStayOnTheClient(t *testing.T) {
	Require(t)
	t.Parallel() // the labs are those of other processes
	out, err := again(t, "testscript").Output()
	lines := strings.Split(string(out), "\n")
	if err != nil || len(lines) != 4 || lines[0] != lines[1] || lines[2] != "<nil>" || lines[0] == ownNet() {
		t.Errorf("the tests and the command were in %q, %v; this process is in %s", lines, err, ownNet())
	}
}

// startWaiting starts tests that wait longer than the test that starts them, and returns when they do, with their standard output.
func startWaiting(t *testing.T) (cmd *exec.Cmd, stdout *os.File, stderr *strings.Builder) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	stderr = new(strings.Builder)
	cmd = again(t, "wait")
	cmd.WaitDelay = 10 * time.Second // for what lives on and should not
	cmd.Stdout, cmd.Stderr = w, stderr
	err = cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(r).ReadString('\n'); line != "waiting\n" {
		t.Fatalf("it said %q, %v", line, err)
	}
	return cmd, r, stderr
}

func TestSignalsReachTheTests(t *testing.T) {
	Require(t)
	t.Parallel() // the labs are those of other processes
	for _, c := range []struct {
		signal os.Signal
		code   int
		says   string
	}{
		{unix.SIGTERM, 128 + 15, "terminated"},
		{unix.SIGQUIT, 2, "waitLong"}, // the stacks are those of the tests
	} {
		cmd, _, stderr := startWaiting(t)
		if err := cmd.Process.Signal(c.signal); err != nil {
			t.Fatal(err)
		}
		if code := exitCode(t, cmd.Wait()); code != c.code || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%v: exit code %d, want %d and %q in\n%s", c.signal, code, c.code, c.says, stderr)
		}
	}
}

func TestTheTestsDieWithTheirParent(t *testing.T) {
	Require(t)
	t.Parallel() // the labs are those of other processes
	cmd, stdout, _ := startWaiting(t)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(stdout); err != nil { // its end comes when the last process has let go of it
		t.Errorf("the tests live on: %v", err)
	}
	exitCode(t, cmd.Wait())
}

const aLabTest = "TestEveryLineReachesTheServers"

func TestWhereTheKernelRefusesTheLabTestsSaySo(t *testing.T) {
	Require(t)
	t.Parallel() // the labs are those of other processes
	for _, c := range []struct {
		env, verdict string
		code         int
	}{
		{"", "--- SKIP: " + aLabTest, 0},
		{RequireEnv + "=1", "--- FAIL: " + aLabTest, 1},
	} {
		cmd := again(t, "forbidden", "-test.v", "-test.run=^"+aLabTest+"$")
		cmd.Env = append(cmd.Env, c.env)
		cmd.SysProcAttr = &syscall.SysProcAttr{ // where forbidding it concerns nobody else
			Cloneflags:  unix.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		}
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Skipf("there are no user namespaces here to forbid namespaces in: %v", err)
		}
		code := exitCode(t, cmd.Wait())
		banners := strings.Count(stderr.String(), "NO TEST NETWORK HERE")
		if code != c.code || banners != 1 || !strings.Contains(stderr.String(), "no space left on device") {
			t.Errorf("exit code %d, want %d; %d banners:\n%s", code, c.code, banners, stderr.String())
		}
		if out := stdout.String(); !strings.Contains(out, c.verdict) || !strings.Contains(out, "did NOT RUN") {
			t.Errorf("want %q and \"did NOT RUN\" in\n%s", c.verdict, out)
		}
	}
}

func TestAnOrdinaryUser(t *testing.T) {
	Require(t)
	t.Parallel() // the labs are those of other processes
	cmd := again(t, "", "-test.v", "-test.run=^"+aLabTest+"$")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Skipf("this process cannot become another user: %v", err)
	}
	code := exitCode(t, cmd.Wait())
	ran := strings.Contains(stdout.String(), "--- PASS: "+aLabTest)
	skipped := strings.Contains(stdout.String(), "--- SKIP: "+aLabTest)
	banner := strings.Contains(stderr.String(), "NO TEST NETWORK HERE")
	t.Logf("as an ordinary user: ran %v, skipped %v", ran, skipped)
	if code != 0 || ran == skipped || skipped != banner {
		t.Errorf("exit code %d, ran %v, skipped %v, banner %v:\n%s%s", code, ran, skipped, banner, stdout.String(), stderr.String())
	}
}
