package compare

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what the processes of a group have used, and hold.
type usage struct {
	cpu                  time.Duration
	resident             float64 // KiB; what is shared with other processes counts by its share (PSS)
	pageTables           float64 // KiB
	threads, descriptors float64
}

const (
	userHz      = 100 // the unit of times in /proc/PID/stat on every architecture that Go knows
	kernelStack = 16  // KiB that a thread has in the kernel, on all 64-bit machines that matter here
)

// use sums up the proxy's processes. What they hold is looked at only on demand, as it takes long.
func (p *proxy) use(t testing.TB, holds bool) (all usage) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	must(t, err)
	for _, dir := range dirs {
		one, err := p.useOf(dir, holds)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // it ended while it was looked at
		}
		must(t, err)
		all.cpu += one.cpu
		all.resident += one.resident
		all.pageTables += one.pageTables
		all.threads += one.threads
		all.descriptors += one.descriptors
	}
	return all
}

// useOf looks at one process: none of the proxy's group uses nothing.
func (p *proxy) useOf(dir string, holds bool) (u usage, err error) {
	text, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return usage{}, err
	}
	// As in proc_pid_stat(5). The name, in brackets, may hold anything; the third field follows its last bracket.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	field := func(i int) float64 { return number(fields[i-3]) }
	if int(field(5)) != p.cmd.Process.Pid { // its process group
		return usage{}, nil
	}
	// Of the living to the nanosecond, by their CPU clocks as clock_getcpuclockid(3) makes them (2 is the
	// scheduler's count); of children that have ended to a hundredth of a second.
	pid, err := strconv.Atoi(filepath.Base(dir))
	if err != nil {
		return usage{}, err
	}
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|2, &ts); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: it has just ended
		return usage{}, fmt.Errorf("CPU clock of %s: %w", dir, err)
	}
	u.cpu = time.Duration(ts.Nano()) + time.Duration(field(16)+field(17))*time.Second/userHz
	if !holds {
		return u, nil
	}
	u.threads = field(20)
	second := func(fields []string) float64 { return number(fields[1]) }
	if u.resident, err = sum(filepath.Join(dir, "smaps_rollup"), second, "Pss:"); err != nil {
		return usage{}, err
	}
	if u.pageTables, err = sum(filepath.Join(dir, "status"), second, "VmPTE:"); err != nil {
		return usage{}, err
	}
	descriptors, err := os.ReadDir(filepath.Join(dir, "fd"))
	u.descriptors = float64(len(descriptors))
	return u, err
}

// kernelMemory returns the KiB in use in those object caches of the kernel that sessions fill and that other work on the
// machine, such as reading files, does not fill much. The directory entries of sockets are left out for that reason:
// 192 bytes each.
func kernelMemory(t testing.TB) float64 {
	t.Helper()
	inUse := func(fields []string) float64 { // slabinfo(5): name, objects in use, objects, size of one
		return number(fields[1]) * number(fields[3]) / 1024
	}
	kib, err := sum("/proc/slabinfo", inUse, "TCP", "MPTCP", "request_sock_TCP", "sock_inode_cache", "filp", "eventpoll_", "skbuff_", "kmalloc-cg-")
	if err != nil {
		t.Logf("no figure of kernel memory, which takes root: %v", err)
		return math.NaN()
	}
	return kib
}

// number is NaN for what is none: so is then the figure it is part of.
func number(text string) float64 {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return math.NaN()
	}
	return n
}

// sum adds up what value makes of those lines of a file that begin with one of the names. None is an error.
func sum(path string, value func(fields []string) float64, names ...string) (total float64, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	found := false
	for line := range strings.Lines(string(text)) {
		if slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(line, name) }) {
			total += value(strings.Fields(line))
			found = true
		}
	}
	if !found {
		return 0, fmt.Errorf("%s has no line that begins with one of %q", path, names)
	}
	return total, nil
}
