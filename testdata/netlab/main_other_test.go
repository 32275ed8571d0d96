//go:build !linux

package netlab

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(Wrap(m)) }

func TestThereIsNoLabHere(t *testing.T) {
	t.Setenv(RequireEnv, "")
	skipped := false
	t.Run("needs a lab", func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		New(t, Config{})
	})
	if !skipped {
		t.Error("a test that needs a lab was not skipped")
	}
}
