package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// userHz is the unit of times in /proc/PID/stat: 100 a second on every architecture that Go knows.
const userHz = 100

// family returns the process ids of p and of all that descend from it and still run.
func (p *process) family() ([]int, error) {
	children := make(map[int][]int)
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			return nil, err
		}
		stat, err := readStat(pid)
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		children[stat.parent] = append(children[stat.parent], pid)
	}
	all := []int{p.cmd.Process.Pid}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all, nil
}

// gone tells that a process ended while it was looked at.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// stat is what this program needs of /proc/PID/stat (proc_pid_stat(5)).
type stat struct {
	parent int
	reaped time.Duration // CPU time of descendants that have ended and been waited for
}

func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	// The name, in brackets, may hold anything; state, the third field, follows its last bracket.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	var numbers [3]int
	for i, field := range []int{4 - 3, 16 - 3, 17 - 3} { // ppid, cutime, cstime
		if field >= len(fields) {
			return stat{}, fmt.Errorf("/proc/%d/stat: %q is too short", pid, text)
		}
		if numbers[i], err = strconv.Atoi(string(fields[field])); err != nil {
			return stat{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
	}
	return stat{numbers[0], time.Duration(numbers[1]+numbers[2]) * time.Second / userHz}, nil
}

// cpu returns the CPU time that the process and all its descendants have used: of those that run to the nanosecond,
// of those that have ended to a hundredth of a second.
func (p *process) cpu() (time.Duration, error) {
	var sum time.Duration
	family, err := p.family()
	if err != nil {
		return 0, err
	}
	for _, pid := range family {
		// The id of another process's CPU clock, as clock_getcpuclockid(3) makes it; 2 is the scheduler's count.
		var ts unix.Timespec
		err := unix.ClockGettime(int32(^pid)<<3|2, &ts)
		if errors.Is(err, unix.EINVAL) || gone(err) {
			continue // it has ended: its parent has its time
		}
		if err != nil {
			return 0, fmt.Errorf("CPU clock of process %d (%s): %w", pid, p.name, err)
		}
		stat, err := readStat(pid)
		if gone(err) {
			continue
		}
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ts.Nano()) + stat.reaped
	}
	return sum, nil
}

// holding is what a process and its descendants hold.
type holding struct {
	resident    int64 // bytes; what is shared with other processes counts by its share (PSS)
	pageTables  int64 // bytes
	threads     int64
	descriptors int64
}

func (p *process) holds() (holding, error) {
	var sum holding
	family, err := p.family()
	if err != nil {
		return holding{}, err
	}
	for _, pid := range family {
		h, err := holds(pid)
		if gone(err) {
			continue
		}
		if err != nil {
			return holding{}, fmt.Errorf("what process %d (%s) holds: %w", pid, p.name, err)
		}
		sum.resident += h.resident
		sum.pageTables += h.pageTables
		sum.threads += h.threads
		sum.descriptors += h.descriptors
	}
	return sum, nil
}

func holds(pid int) (holding, error) {
	dir := fmt.Sprintf("/proc/%d", pid)
	memory, err := numbersIn(filepath.Join(dir, "smaps_rollup"), "Pss:")
	if err != nil {
		return holding{}, err
	}
	status, err := numbersIn(filepath.Join(dir, "status"), "VmPTE:", "Threads:")
	if err != nil {
		return holding{}, err
	}
	descriptors, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return holding{}, err
	}
	return holding{memory[0] << 10, status[0] << 10, status[1], int64(len(descriptors))}, nil
}

// numbersIn returns the first number of each line of a file that begins with one of the words.
func numbersIn(path string, words ...string) ([]int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	numbers := make([]int64, len(words))
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) < 2 {
			continue
		}
		if i := slices.Index(words, string(fields[0])); i >= 0 {
			if numbers[i], err = strconv.ParseInt(string(fields[1]), 10, 64); err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	return numbers, nil
}
