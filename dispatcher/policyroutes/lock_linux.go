package policyroutes

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// errHeld: a living process holds the lock.
var errHeld = errors.New("another process manages routes here already")

// lock is the right to manage the routes of a network namespace, one process's at a time. It is an exclusive flock on a file
// in a folder that only the administrator may write in, so that nobody else can take it, or keep it from being taken. It
// goes with the process however that ends.
type lock struct{ file *os.File }

// takeLock takes the lock of this network namespace; errHeld where a living process has it.
func takeLock() (*lock, error) {
	path, err := lockPath()
	if err != nil {
		return nil, err
	}
	for {
		f, err := openLock(path)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("%w, and holds %s; end it first", errHeld, path), f.Close())
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		if isStill(f, path) {
			return &lock{f}, nil
		}
		// Its former holder has just removed it.
		if err := f.Close(); err != nil {
			return nil, fmt.Errorf("close %s: %w", path, err)
		}
	}
}

// lockPath names the namespace by its inode (namespaces(7)).
func lockPath() (string, error) {
	var namespace unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &namespace); err != nil {
		return "", fmt.Errorf("ask which network namespace this is: %w", err)
	}
	return fmt.Sprintf("/run/dispatch-routes-%d.lock", namespace.Ino), nil
}

// openLock believes in a file of this user's own only.
func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EROFS) {
		return nil, fmt.Errorf("to manage routes takes the right to write in /run: %w; run it as root", err)
	}
	if err != nil {
		return nil, fmt.Errorf("take the lock of managed routes: %w", err)
	}
	var s unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &s)
	if err == nil && (s.Mode&unix.S_IFMT != unix.S_IFREG || s.Uid != uint32(os.Geteuid()) || s.Mode&0o077 != 0) {
		err = errors.New("it is not this user's alone; remove it")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}

func isStill(f *os.File, path string) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(path)
	return err == nil && os.SameFile(mine, there)
}

// patience is for a process that holds the lock for a moment to clear up what a dead one has left.
const patience = 2 * time.Second

// waitForLock is takeLock with patience.
func waitForLock() (*lock, error) {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		l, err := takeLock()
		if !errors.Is(err, errHeld) || time.Now().After(end) {
			return l, err
		}
	}
}

// release removes the file while it is still locked, so that whoever has opened it meanwhile sees that it is gone.
func (l *lock) release() error {
	return errors.Join(os.Remove(l.file.Name()), l.file.Close())
}
