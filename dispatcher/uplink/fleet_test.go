package uplink

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"dispatch/dispatcher/machine"
)

func TestIDs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		want := rapid.MapOf(rapid.Custom(func(r *rapid.T) ID { return ID(rapid.IntRange(0, MaxUplinks-1).Draw(r, "id")) }), rapid.Bool()).Draw(r, "ids")
		var s IDs
		for id, in := range want {
			if s = s.With(id); !in {
				s = s.Without(id)
			}
		}
		var got []ID
		for id := range s.All() {
			got = append(got, id)
		}
		if !slices.IsSorted(got) || s.Len() != len(got) {
			r.Fatalf("%b: %v, %d", s, got, s.Len())
		}
		for n, id := range got {
			if !want[id] || !s.Has(id) || s.Nth(n) != id || s.First() != got[0] {
				r.Fatalf("%b: %v", s, got)
			}
		}
		for id, in := range want {
			if s.Has(id) != in {
				r.Fatalf("%b: has %d: %t", s, id, s.Has(id))
			}
		}
		for range s.All() {
			break // an end before the last is no mistake
		}
	})
}

// ports is a machine with so many interfaces: port0, port1 and so on.
func ports(n int) func() ([]machine.Interface, error) {
	var list []machine.Interface
	for at := range n {
		list = append(list, machine.Interface{
			Index: at + 1, Name: fmt.Sprintf("port%d", at), Up: true,
			Addresses: []machine.Address{{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(at)}), 32)}},
		})
	}
	return fixed(list)
}

func apply(t *testing.T, f *Fleet, args ...string) Change {
	t.Helper()
	specs, err := ParseSpecs(args)
	if err != nil {
		t.Fatal(err)
	}
	change, err := f.Apply(specs)
	if err != nil {
		t.Fatal(err)
	}
	return change
}

func (c Change) String() string {
	var parts []string
	for _, p := range []struct {
		sign    string
		uplinks []*Uplink
	}{{"+", c.Added}, {"-", c.Removed}, {"=", c.Reweighed}, {"!", c.Cut}} {
		for _, u := range p.uplinks {
			parts = append(parts, p.sign+u.Name())
		}
	}
	return strings.Join(parts, " ")
}

// weights is what a View says of the lines: names and weights, in order.
func weights(t *testing.T, f *Fleet) string {
	t.Helper()
	v, err := f.View()
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for n := range v.Bindings {
		l := &v.Bindings[n]
		parts = append(parts, fmt.Sprintf("%s@%d", l.Uplink.Name(), l.Weight))
		if v.BindingOf(l.Uplink) != l || v.Binding(l.Uplink.ID()) != l || !v.IDs.Has(l.Uplink.ID()) {
			t.Errorf("%s is not found by its ID %d", l.Uplink.Name(), l.Uplink.ID())
		}
	}
	if v.IDs.Len() != len(v.Bindings) {
		t.Errorf("%d IDs for %d lines", v.IDs.Len(), len(v.Bindings))
	}
	return strings.Join(parts, " ")
}

func TestApplyKeepsWhatIsUnchanged(t *testing.T) {
	t.Parallel()
	f := fleet(t, ports(5), "port0@5", "port1@3", "port2")
	before := f.Uplinks()
	first, err := f.View()
	if err != nil {
		t.Fatal(err)
	}
	if c := apply(t, f, "port0@5", "port1@3", "port2"); c.String() != "" {
		t.Errorf("the same again: %s", c)
	}
	if v, err := f.View(); err != nil || v.Generation != first.Generation {
		t.Errorf("the same again is generation %d behind %d, %v", v.Generation, first.Generation, err)
	}
	if c := apply(t, f, "port3", "port1@4", "port0@5"); c.String() != "+port3 -port2 =port1" {
		t.Errorf("change %s", c)
	}
	if got := weights(t, f); got != "port3@1 port1@4 port0@5" {
		t.Errorf("view %s", got)
	}
	v, err := f.View()
	if err != nil || v.Generation == first.Generation {
		t.Errorf("a changed fleet has the generation of before, %v", err)
	}
	if after := f.Uplinks(); after[1] != before[1] || after[2] != before[0] {
		t.Error("an unchanged line has become another")
	}
	if v.BindingOf(before[2]) != nil || first.BindingOf(before[2]) == nil {
		t.Error("a removed line is in the new View, or not in the old one any more")
	}
	var unavailable *UnavailableError
	if _, err := before[2].DialStream(t.Context(), To(netip.MustParseAddrPort("192.0.2.1:1"))); !errors.As(err, &unavailable) {
		t.Errorf("a removed line dials: %v", err)
	}
}

func TestApplyChangesNothingAfterAnError(t *testing.T) {
	t.Parallel()
	f := fleet(t, ports(3), "port0@5", "port1")
	for what, specs := range map[string][]Spec{
		"none":    {},
		"unknown": {{Name: "port0", Weight: 9}, {Name: "port7", Weight: 1}},
		"twice":   {{Name: "port2", Weight: 9}, {Name: "port2", Weight: 1}},
		"many":    make([]Spec, MaxUplinks+1),
	} {
		if c, err := f.Apply(specs); err == nil || c.String() != "" {
			t.Errorf("%s: %s, %v", what, c, err)
		}
		if got := weights(t, f); got != "port0@5 port1@1" {
			t.Fatalf("%s: view %s", what, got)
		}
	}
	// One that is gone for the moment stays in the fleet.
	f.table.List = ports(1)
	f.Invalidate()
	if c := apply(t, f, "port0@5", "port1@2"); c.String() != "=port1" {
		t.Errorf("change %s", c)
	}
}

func TestIDsAreReusedOnlyWhenFree(t *testing.T) {
	t.Parallel()
	f := fleet(t, ports(200), "port0", "port1")
	one := f.Uplinks()[1]
	one.Hold()
	apply(t, f, "port0", "port2") // port1 has a session
	two := f.Uplinks()[1]
	if two.ID() == one.ID() {
		t.Fatal("the slot of a line with a session was given away")
	}
	if c := apply(t, f, "port0", "port1"); c.String() != "+port1 -port2" || f.Uplinks()[1] != one {
		t.Errorf("one that comes back while it has sessions is not itself: %s", c)
	}
	apply(t, f, "port0")
	one.Release()
	apply(t, f, "port0", "port3")
	if id := f.Uplinks()[1].ID(); id != one.ID() {
		t.Errorf("a free slot is not used again: %d", id)
	}

	// Full with lines that are removed and still carry sessions: the one that was removed longest ago is cut.
	var removed []*Uplink
	for n := 10; len(removed) < MaxUplinks-1; n++ {
		apply(t, f, "port0", fmt.Sprintf("port%d", n))
		u := f.Uplinks()[1]
		u.Hold()
		removed = append(removed, u)
	}
	if c := apply(t, f, "port0", "port100"); c.String() != fmt.Sprintf("+port100 -%s !port10", removed[len(removed)-1].Name()) {
		t.Errorf("change %s", c)
	}
	removed[5].Release()
	if c := apply(t, f, "port0", "port101"); len(c.Cut) > 0 {
		t.Errorf("cut %s, though there is a free slot", c)
	}
	if got := weights(t, f); got != "port0@1 port101@1" {
		t.Errorf("view %s", got)
	}
}

// Whatever is applied: no two lines that are in use share a slot.
func TestApplyAtRandom(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		f, err := NewFleet(&machine.Table{List: ports(100)}, []Spec{{Name: "port0", Weight: 1}})
		if err != nil {
			r.Fatal(err)
		}
		held := map[*Uplink]int{}
		for range rapid.IntRange(1, 30).Draw(r, "steps") {
			names := rapid.SliceOfNDistinct(rapid.IntRange(0, 99), 1, MaxUplinks, rapid.ID[int]).Draw(r, "lines")
			var specs []Spec
			for _, n := range names {
				specs = append(specs, Spec{Name: fmt.Sprintf("port%d", n), Weight: 1 + n%3})
			}
			change, err := f.Apply(specs)
			if err != nil {
				r.Fatal(err)
			}
			for _, u := range change.Cut {
				for range held[u] {
					u.Release()
				}
				delete(held, u)
			}
			slots := map[ID]*Uplink{}
			inUse := f.Uplinks()
			for u := range held {
				inUse = append(inUse, u)
			}
			for _, u := range inUse {
				if other := slots[u.ID()]; other != nil && other != u {
					r.Fatalf("%s and %s share a slot", u.Name(), other.Name())
				}
				slots[u.ID()] = u
			}
			for _, u := range f.Uplinks() {
				switch {
				case rapid.Bool().Draw(r, "hold"):
					u.Hold()
					held[u]++
				case held[u] > 0 && rapid.Bool().Draw(r, "release"):
					u.Release()
					if held[u]--; held[u] == 0 {
						delete(held, u)
					}
				}
			}
		}
	})
}
