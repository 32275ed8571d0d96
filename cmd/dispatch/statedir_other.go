//go:build !unix

package main

import (
	"os"
	"path/filepath"
)

// stateDir is the user's local application data; on Windows %LocalAppData%.
func stateDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil || !filepath.IsAbs(dir) {
		return "", errNoHome
	}
	return filepath.Join(dir, "dispatch"), nil
}
