package policyroutes

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
)

// Nobody but the administrator can keep the lock from being taken, and a file that is not his own is not believed.
func TestLock(t *testing.T) {
	routesLab(t)
	path, err := lockPath()
	if err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func() error{
		"a link":                     func() error { return os.Symlink("/run/elsewhere", path) },
		"a folder":                   func() error { return os.Mkdir(path, 0o700) },
		"a file that others may use": func() error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o666)) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if own, err := takeLock(); err == nil {
			t.Errorf("%s is taken for the lock", what)
			_ = own.release()
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	own, err := takeLock()
	if err != nil {
		t.Fatal(err)
	}
	if second, err := takeLock(); !errors.Is(err, errHeld) {
		t.Errorf("taken twice: %v, %v", second, err)
	}
	if err := own.release(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
	// Whoever takes it while it is let go of has the lock that all others see.
	var holders atomic.Int64
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for range 300 {
				own, err := takeLock()
				if errors.Is(err, errHeld) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d hold it", n)
				}
				holders.Add(-1)
				if err := own.release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
}
