package main

import (
	"os"
	"path/filepath"
)

// stateDir is where macOS keeps a user's logs, and its Console application finds them.
func stateDir() (string, error) {
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		return "", errNoHome
	}
	return filepath.Join(home, "Library", "Logs", "dispatch"), nil
}
