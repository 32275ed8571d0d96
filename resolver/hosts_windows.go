package resolver

import (
	"path/filepath"

	"golang.org/x/sys/windows"
)

func systemHostsFile() (string, error) {
	dir, err := windows.GetSystemDirectory()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "drivers", "etc", "hosts"), nil
}
