package netlab

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// RequireEnv names the environment variable that, set to 1, turns "the lab cannot be had here, the test is
// skipped" into a failure. Set it wherever a green run must mean that the lab tests ran.
const RequireEnv = "DISPATCH_REQUIRE_NETLAB"

// stateEnv tells a process how it came to be. The environment is the right place: the processes that a test
// binary starts from itself (fuzz workers) must know it too.
const (
	stateEnv      = "DISPATCH_NETLAB"
	stateEntering = "entering" // started by this package to become the client machine
	stateInside   = "inside:"  // is the client machine; the namespace's identity follows
	stateRefused  = "refused:" // the lab cannot be had; the reason follows
)

// TestingM is what this package needs of a *testing.M; goleak's and testscript's interfaces of that name fit.
type TestingM interface {
	Run() int
}

// Main runs the tests of m on a client machine of their own and exits with their exit code. See the package's
// description for what happens where that is impossible.
func Main(m *testing.M) {
	os.Exit(Wrap(m).Run())
}

// Wrap returns a TestingM whose Run runs the tests of m on a client machine of their own: in the process that
// "go test" started it starts the same binary again inside a new network namespace, with the same arguments and
// standard streams, and returns its exit code; in that second process it runs m.
func Wrap(m TestingM) TestingM {
	return wrapped{m}
}

type wrapped struct{ m TestingM }

func (w wrapped) Run() int {
	if strings.HasPrefix(os.Getenv(stateEnv), stateRefused) {
		return w.m.Run() // a child of a process that has already tried, and has said so
	}
	return enter(w.m)
}

// runOutside runs the tests where the process is, with the lab unavailable for the given reason.
func runOutside(m TestingM, reason string) int {
	if err := os.Setenv(stateEnv, stateRefused+reason); err != nil {
		fmt.Fprintf(os.Stderr, "netlab: setting %s: %v\n", stateEnv, err)
		return 1
	}
	consequence := "are SKIPPED: a pass says nothing about them"
	if required() {
		consequence = "FAIL, because " + RequireEnv + "=1"
	}
	rule := strings.Repeat("*", 78)
	fmt.Fprintf(os.Stderr, "%s\n* netlab: NO TEST NETWORK HERE. The tests of this package that need one\n* %s.\n* reason: %s\n"+
		"* to run them: Linux, as root or where users may make user namespaces\n%s\n", rule, consequence, reason, rule)
	return m.Run()
}

func required() bool { return os.Getenv(RequireEnv) == "1" }

// Available tells whether the process is on the client machine.
func Available() bool { return strings.HasPrefix(os.Getenv(stateEnv), stateInside) }

// Require returns if the process is on the client machine, in namespaces of its own where it may do what root may;
// otherwise it skips or fails t, saying why. New calls it.
func Require(t testing.TB) {
	t.Helper()
	state := os.Getenv(stateEnv)
	reason, refused := strings.CutPrefix(state, stateRefused)
	switch {
	case Available():
	case refused && required():
		t.Fatalf("netlab: this test did NOT RUN, and %s=1 demands it: %s", RequireEnv, reason)
	case refused:
		t.Skipf("netlab: this test did NOT RUN, there is no test network here: %s", reason)
	default:
		t.Fatal("netlab: the process is not in a namespace of its own; TestMain must call netlab.Main, or Run of netlab.Wrap")
	}
}
