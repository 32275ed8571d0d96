//go:build !windows

package resolver

func systemHostsFile() (string, error) { return "/etc/hosts", nil }
