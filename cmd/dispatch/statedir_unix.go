//go:build unix && !darwin

package main

import (
	"os"
	"path/filepath"
)

// stateDir follows the XDG base directory specification: $XDG_STATE_HOME, or ~/.local/state.
func stateDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "dispatch"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		return "", errNoHome
	}
	return filepath.Join(home, ".local", "state", "dispatch"), nil
}
