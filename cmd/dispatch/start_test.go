package main

import "testing"

func TestWord(t *testing.T) {
	for name, want := range map[string]string{
		"eth0": "eth0", "192.0.2.1": "192.0.2.1", "Wi-Fi": "Wi-Fi", "2001:db8::1": "2001:db8::1",
		"Ethernet 2": `"Ethernet 2"`, "vEthernet (Default Switch)": `"vEthernet (Default Switch)"`,
	} {
		if got := word(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
