package policyroutes_test

import (
	"testing"

	"go.uber.org/goleak"

	"dispatch/testdata/netlab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(netlab.Wrap(m)) }
