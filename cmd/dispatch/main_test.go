package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"dispatch/testdata/netlab"
)

func TestMain(m *testing.M) {
	testscript.Main(netlab.Wrap(m), map[string]func(){"dispatch": main})
}

// The scripts under testdata/script are the command line as its user sees it. Each is run on a machine with loopback
// and, where it asks for one, a line.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: func(e *testscript.Env) error {
		e.Setenv("HOME", e.WorkDir)
		e.Setenv("LocalAppData", e.WorkDir)
		e.Setenv("NO_COLOR", os.Getenv("NO_COLOR"))
		return nil
	}})
}
