package gateway

import (
	"errors"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
)

// ChooseLines makes the uplinks the user named, or, for none, the automatic choice. An uplink that the machine does not have
// is an error that wraps uplink.ErrNoMatch.
func ChooseLines(specs []uplink.Spec) (*uplink.Fleet, error) {
	table := new(machine.Table)
	if len(specs) > 0 {
		return uplink.NewFleet(table, specs)
	}
	interfaces, err := table.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, choice := range uplink.Automatic(interfaces) {
		if choice.Use {
			specs = append(specs, uplink.Spec{Name: choice.Interface.Name, Weight: 1})
		}
	}
	if len(specs) == 0 {
		return nil, errors.New("no interface can be used: none is up and has a usable address; 'dispatch list --all' shows why")
	}
	return uplink.NewFleet(table, specs)
}
