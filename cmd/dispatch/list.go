package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"dispatch/dispatcher/machine"
	"dispatch/dispatcher/uplink"
)

type listCommand struct {
	JSON bool `name:"json" help:"Print JSON, for programs."`
	All  bool `help:"List every interface, also those that cannot be used."`
}

// listed is an interface in the JSON listing; its field names are a promise to programs.
type listed struct {
	Name          string          `json:"name"`
	Index         int             `json:"index"`
	Kind          string          `json:"kind,omitempty"`
	Up            bool            `json:"up"`
	Usable        bool            `json:"usable"`
	Addresses     []listedAddress `json:"addresses"`
	DefaultRoutes []listedRoute   `json:"default_routes"`
	UsedByStart   bool            `json:"used_by_start"`
	Reason        string          `json:"reason,omitempty"`
}

type listedAddress struct {
	Address string `json:"address"`
	Prefix  int    `json:"prefix_length"`
	Family  string `json:"family"`
	Usable  bool   `json:"usable"`
	Reason  string `json:"reason,omitempty"`
}

type listedRoute struct {
	Family  string `json:"family"`
	Gateway string `json:"gateway,omitempty"`
	Metric  int    `json:"metric"`
}

// Run lists the interfaces.
func (c *listCommand) Run(to terminal) error {
	interfaces, err := machine.Interfaces()
	if err != nil {
		return fmt.Errorf("read the network interfaces: %w", err)
	}
	list := make([]listed, 0, len(interfaces))
	for _, choice := range uplink.Automatic(interfaces) {
		if l := describe(choice); l.Usable || c.All {
			list = append(list, l)
		}
	}
	if c.JSON {
		encoder := json.NewEncoder(to.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(list)
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(to.err, "no interface can be used; 'dispatch list --all' shows why")
		return err
	}
	return printTable(to.out, list)
}

func describe(choice uplink.Candidate) listed {
	i := choice.Interface
	l := listed{
		Name: i.Name, Index: i.Index, Kind: string(i.Kind), Up: i.Up,
		Usable:        i.Up && i.Kind != machine.KindLoopback && (i.Source(machine.IPv4).IsValid() || i.Source(machine.IPv6).IsValid()),
		Addresses:     []listedAddress{},
		DefaultRoutes: []listedRoute{},
		UsedByStart:   choice.Use, Reason: choice.Reason,
	}
	for _, a := range i.Addresses {
		ok, why := a.Usable()
		l.Addresses = append(l.Addresses, listedAddress{
			Address: a.Prefix.Addr().String(), Prefix: a.Prefix.Bits(),
			Family: machine.FamilyOf(a.Prefix.Addr()).String(), Usable: ok, Reason: why,
		})
	}
	for _, r := range i.DefaultRoutes {
		route := listedRoute{Family: r.Family.String(), Metric: r.Metric}
		if r.Router.IsValid() {
			route.Gateway = r.Router.String()
		}
		l.DefaultRoutes = append(l.DefaultRoutes, route)
	}
	return l
}

// printTable prints a row for each interface, and further ones for its further addresses and routes.
func printTable(out io.Writer, list []listed) error {
	rows := [][5]string{{"NAME", "KIND", "ADDRESS", "DEFAULT ROUTE", "USED BY START"}}
	for _, l := range list {
		addresses, routes := []string{}, []string{}
		for _, a := range l.Addresses {
			text := a.Address + "/" + strconv.Itoa(a.Prefix)
			if !a.Usable {
				text += " (" + a.Reason + ")"
			}
			addresses = append(addresses, text)
		}
		for _, r := range l.DefaultRoutes {
			text := r.Family
			if r.Gateway != "" {
				text += " via " + r.Gateway
			}
			routes = append(routes, text+" metric "+strconv.Itoa(r.Metric))
		}
		used := "yes"
		if !l.UsedByStart {
			used = "no: " + l.Reason
		}
		for n := range max(len(addresses), len(routes), 1) {
			row := [5]string{2: at(addresses, n), 3: at(routes, n)}
			if n == 0 {
				row[0], row[1], row[4] = l.Name, l.Kind, used
				row[2], row[3] = orDash(row[2]), orDash(row[3])
			}
			rows = append(rows, row)
		}
	}
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		if _, err := fmt.Fprintln(w, strings.Join(row[:], "\t")); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(table.String()) {
		if _, err := fmt.Fprintln(out, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

func at(texts []string, n int) string {
	if n < len(texts) {
		return texts[n]
	}
	return ""
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
