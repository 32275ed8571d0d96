package main

import "slices"

// tests are all kinds of load there are, in the order of the report.
func tests() []test {
	return slices.Concat(streamTests(), connectionTests(), requestTests(), idleTests())
}

func testNames() []string {
	var names []string
	for _, t := range tests() {
		names = append(names, t.name)
	}
	return names
}
