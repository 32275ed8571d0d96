package main

import (
	"errors"
	"strings"
	"testing"
	"testing/iotest"
)

func TestRead(t *testing.T) {
	tests := map[string]struct {
		events string
		want   totals
		shown  []string // in this order
	}{
		"subtests count, their parent does not": {
			events: `
				{"Action":"pass","Package":"p","Test":"TestA/one"}
				{"Action":"pass","Package":"p","Test":"TestA/two"}
				{"Action":"pass","Package":"p","Test":"TestA"}
				{"Action":"pass","Package":"p","Test":"TestAB"}
				{"Action":"pass","Package":"p","Elapsed":1.25}`,
			want:  totals{passed: 3},
			shown: []string{"pass p: 3 passed, 0 failed, 0 skipped, 1.2 s\n"},
		},
		"a failing subtest is one failure": {
			events: `
				{"Action":"output","Package":"p","Test":"TestA/one","Output":"    a_test.go:7: wrong\n"}
				{"Action":"fail","Package":"p","Test":"TestA/one"}
				{"Action":"pass","Package":"p","Test":"TestA/two"}
				{"Action":"fail","Package":"p","Test":"TestA"}
				{"Action":"fail","Package":"p"}`,
			want:  totals{passed: 1, failed: 1},
			shown: []string{"FAILED p TestA/one\n    a_test.go:7: wrong\n", "fail p: 1 passed, 1 failed"},
		},
		"a parent that fails by itself": {
			events: `
				{"Action":"pass","Package":"p","Test":"TestA/one"}
				{"Action":"fail","Package":"p","Test":"TestA"}
				{"Action":"fail","Package":"p"}`,
			want: totals{passed: 1, failed: 1},
		},
		"skips are repeated at the end with their reasons": {
			events: `
				{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
				{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: no root here\n"}
				{"Action":"output","Package":"p","Test":"TestA","Output":"--- SKIP: TestA (0.00s)\n"}
				{"Action":"skip","Package":"p","Test":"TestA"}
				{"Action":"pass","Package":"p"}
				{"Action":"pass","Package":"q","Test":"TestB"}
				{"Action":"pass","Package":"q"}`,
			want:  totals{passed: 1, skipped: 1},
			shown: []string{"pass p", "pass q", "DID NOT RUN: 1\nSKIPPED p TestA\n    a_test.go:3: no root here\n***"},
		},
		"a package without tests": {
			events: `
				{"Action":"output","Package":"p","Output":"?   \tp\t[no test files]\n"}
				{"Action":"skip","Package":"p"}`,
			shown: []string{"skip p: 0 passed, 0 failed, 0 skipped"},
		},
		"a package that does not compile": {
			events: `
				{"ImportPath":"p [p.test]","Action":"build-output","Output":"p/a.go:4:5: undefined: x\n"}
				{"ImportPath":"p [p.test]","Action":"build-fail"}
				{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}
				{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}`,
			want:  totals{failed: 1},
			shown: []string{"p/a.go:4:5: undefined: x\n", "fail p: 0 passed, 1 failed"},
		},
		"a package that fails after its tests": {
			events: `
				{"Action":"pass","Package":"p","Test":"TestA"}
				{"Action":"output","Package":"p","Output":"PASS\n"}
				{"Action":"output","Package":"p","Output":"goleak: found a goroutine\n"}
				{"Action":"fail","Package":"p"}`,
			want:  totals{passed: 1, failed: 1},
			shown: []string{"fail p: 1 passed, 1 failed, 0 skipped, 0.0 s\ngoleak: found a goroutine\n"},
		},
		"a test that never ends": {
			events: `
				{"Action":"run","Package":"p","Test":"TestA"}
				{"Action":"fail","Package":"p"}`,
			want:  totals{failed: 1},
			shown: []string{"FAILED p TestA\n"},
		},
		"events that break off": {
			events: `
				{"Action":"pass","Package":"p","Test":"TestA"}`,
			want:  totals{failed: 1},
			shown: []string{"FAILED p: the events end before the package does\n"},
		},
		"what is not an event is shown": {
			events: "go: cannot find main module\n",
			shown:  []string{"go: cannot find main module\n"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			got, err := read(strings.NewReader(tt.events), &out)
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("totals: %v, want %v", got, tt.want)
			}
			rest := out.String()
			for _, s := range tt.shown {
				_, after, found := strings.Cut(rest, s)
				if !found {
					t.Fatalf("the report lacks %q in its place:\n%s", s, out.String())
				}
				rest = after
			}
		})
	}
}

func TestReadErrors(t *testing.T) {
	broken := errors.New("broken")
	if _, err := read(iotest.ErrReader(broken), &strings.Builder{}); !errors.Is(err, broken) {
		t.Errorf("reading: got %v, want one that wraps %v", err, broken)
	}
	if _, err := read(strings.NewReader("text\n"), brokenWriter{broken}); !errors.Is(err, broken) {
		t.Errorf("writing: got %v, want one that wraps %v", err, broken)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }
