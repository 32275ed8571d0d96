package loopback

import (
	"net/netip"
	"testing"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
)

// Fleet is that of a machine with loopback, which is dialled directly, and one line, "nowhere", whose addresses are for
// documentation: it reaches nothing.
func Fleet(t testing.TB) *uplink.Fleet {
	t.Helper()
	table := &machine.Table{List: func() ([]machine.Interface, error) {
		return []machine.Interface{
			{Index: 1, Name: "lo", Kind: machine.KindLoopback, Up: true, Addresses: []machine.Address{{Prefix: netip.MustParsePrefix("127.0.0.1/8")}}},
			{Index: 2, Name: "nowhere", Addresses: []machine.Address{{Prefix: netip.MustParsePrefix("198.51.100.2/24")}}},
		}, nil
	}}
	fleet, err := uplink.NewFleet(table, []uplink.Spec{{Name: "nowhere", Weight: 1}})
	if err != nil {
		t.Fatal(err)
	}
	return fleet
}
