package uplink

import (
	"testing"

	"dispatch/dispatcher/machine"
)

// A View is told when a line differs from the one before. Connections may have left from an address that is no line's
// source any more: its end is told, too.
func TestWatchTellsOfLinesAndOfAddressesThatGo(t *testing.T) {
	t.Parallel()
	told := 0
	w := &watcher{fleet: fleet(t, fixed(laptop()), "eth0"), changed: func(*View) { told++ }}
	former := address("198.51.100.77/24")
	former.Deprecated = true
	withFormer, otherSource, otherLine := laptop(), laptop(), laptop()
	withFormer[1].Addresses = append(withFormer[1].Addresses, former)
	otherSource[1].Addresses[1] = address("198.51.100.3/24")
	otherLine[2].Up = false
	for _, c := range []struct {
		what       string
		interfaces []machine.Interface
		want       int // calls
	}{
		{"the first reading", laptop(), 1},
		{"the same again", laptop(), 0},
		{"an address more, which concerns nobody", withFormer, 0},
		{"that address gone", laptop(), 1},
		{"an interface that is no line", otherLine, 0},
		{"another source", otherSource, 1},
	} {
		told = 0
		w.take(&machine.Reading{Interfaces: c.interfaces})
		if told != c.want {
			t.Errorf("%s: told %d times, want %d", c.what, told, c.want)
		}
	}
}
