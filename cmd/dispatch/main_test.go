package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"dispatch/testdata/netlab"
)

func TestMain(m *testing.M) {
	testscript.Main(netlab.Wrap(leakChecked{m}), map[string]func(){"dispatch": main})
}

// leakChecked is goleak.VerifyTestMain for a run that testscript ends.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, "goroutines are left:", err)
		return 1
	}
	return 0
}

// The scripts under testdata/script are the command line as its user sees it, those that look at the
// machine on one with loopback only.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("LocalAppData", e.WorkDir)
			return nil
		},
		Condition: func(condition string) (bool, error) {
			if condition != "lab" {
				return false, fmt.Errorf("there is no condition %q", condition)
			}
			return netlab.Available(), nil
		},
	})
}
