package health

import (
	"net/netip"
	"strings"
	"testing"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
)

// The kernel's word on a line counts at once, in each family.
func TestKernel(t *testing.T) {
	t.Parallel()
	set, table := noLines(t)
	list := table.List
	change := func(with func([]machine.Interface)) *uplink.View {
		table.List = func() ([]machine.Interface, error) {
			all, err := list()
			with(all)
			return all, err
		}
		table.Invalidate()
		view, err := set.View()
		if err != nil {
			t.Fatal(err)
		}
		return view
	}
	b := watch(t, set)
	b.avoids("at first")
	b.Kernel(change(func(all []machine.Interface) { all[1].Up = false }))
	b.avoids("the link is down", 1)
	if s := b.Statuses()[1]; s.State != Down || s.Reason != "the link is down" {
		t.Errorf("status %+v", s)
	}
	b.report(1, destinationA, uplink.NoFailure) // from before
	b.avoids("late news", 1)
	b.Kernel(change(func([]machine.Interface) {}))
	b.avoids("the link is up again, and nothing can be checked")

	b.Kernel(change(func(all []machine.Interface) { all[0].DefaultRoutes = nil }))
	b.avoids("the default route is gone", 0)
	if s := b.Statuses()[0]; !strings.Contains(s.Reason, "default route") {
		t.Errorf("status %+v", s)
	}
	b.report(0, destinationA, uplink.NoFailure)
	b.avoids("but it works")
}

// A line that comes back has to prove itself where that can be checked.
func TestKernelBringsALineBack(t *testing.T) {
	t.Parallel()
	set, table := noLines(t)
	list := table.List
	b := watch(t, set)
	b.report(2, destinationB, uplink.NoFailure)
	for _, there := range []bool{false, true} {
		table.List = func() ([]machine.Interface, error) {
			all, err := list()
			if !there {
				all[1].Addresses = nil
			}
			return all, err
		}
		table.Invalidate()
		view, err := set.View()
		if err != nil {
			t.Fatal(err)
		}
		b.Kernel(view)
		b.avoids("gone, and back", 1)
	}
	if s := b.Statuses()[1]; s.State == Up || s.Reason == "" {
		t.Errorf("status %+v", s)
	}
}

// Lines that stay in the fleet keep what is known of them; one that leaves is not checked any more, and nothing that is
// told of it counts; what was known of it does not stick to the line that gets its place.
func TestKernelTellsWhichLinesThereAre(t *testing.T) {
	t.Parallel()
	set, _ := noLines(t)
	b := watch(t, set)
	apply := func(names ...string) {
		t.Helper()
		specs, err := uplink.ParseSpecs(names)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := set.Apply(specs); err != nil {
			t.Fatal(err)
		}
		view, err := set.View()
		if err != nil {
			t.Fatal(err)
		}
		b.Kernel(view)
	}
	first := set.Uplinks()
	for _, line := range []int{0, 1} {
		for _, to := range []netip.AddrPort{destinationA, destinationB} {
			b.Attempted(uplink.Outcome{Uplink: first[2], Host: "x", Destination: to})
			b.report(line, to, uplink.TimedOut)
		}
	}
	b.avoids("before", 0, 1)
	b.mu.Lock()
	checked := lineOf(b.lines[0], first[1])
	b.mu.Unlock()
	apply("nowhere0", "nowhere2")
	b.avoids("after one of those has left", 0)
	select {
	case <-checked.ctx.Done():
	default:
		t.Error("the line that has left is still checked")
	}
	b.Attempted(uplink.Outcome{Uplink: first[1], Host: "x", Destination: destinationA})
	b.Doubted(first[1], uplink.IPv4)
	if all := b.Statuses(); len(all) != 2 || all[0].Uplink != first[0] || all[0].State == Up || all[1].Uplink != first[2] {
		t.Errorf("states %+v", all)
	}
	apply("nowhere2")
	apply("nowhere2", "nowhere1")
	if again := set.Uplinks()[1]; again == first[1] || again.ID() != first[0].ID() {
		t.Fatalf("the slot of a line that left has %+v", again)
	}
	b.avoids("with a new line in the slot of one that was")
}
