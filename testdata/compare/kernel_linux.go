package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// sessionSlabs begin the names of the kernel's object caches that sessions fill, and that other work on the machine, such as reading
// files, does not fill much. The directory entries of sockets are left out for that reason: 192 bytes each.
var sessionSlabs = []string{"TCP", "MPTCP", "request_sock_TCP", "sock_inode_cache", "filp", "eventpoll_", "skbuff_", "kmalloc-cg-"}

// kernelMemory is a look at the kernel's object caches, of the whole machine.
type kernelMemory struct {
	sessions int64 // bytes in use in the caches that sessions fill
	thread   int64 // bytes that each thread takes: its stack and its descriptor
}

// errNoSlabs is for a kernel that does not show its caches, or not to this user.
var errNoSlabs = errors.New("the kernel's object caches cannot be read")

// kernelStack is the size of a thread's stack in the kernel, on all 64-bit machines that matter here.
const kernelStack = 16 << 10

func readKernelMemory() (kernelMemory, error) {
	text, err := os.ReadFile("/proc/slabinfo")
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return kernelMemory{}, fmt.Errorf("%w: %w", errNoSlabs, err)
	}
	if err != nil {
		return kernelMemory{}, err
	}
	return parseSlabs(text)
}

// parseSlabs reads /proc/slabinfo (slabinfo(5)): name, objects in use, objects, size of one, and more.
func parseSlabs(text []byte) (kernelMemory, error) {
	k := kernelMemory{thread: kernelStack}
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) < 4 || fields[0][0] == '#' || string(fields[0]) == "slabinfo" {
			continue
		}
		used, err := strconv.ParseInt(string(fields[1]), 10, 64)
		if err != nil {
			return kernelMemory{}, fmt.Errorf("/proc/slabinfo: %w", err)
		}
		size, err := strconv.ParseInt(string(fields[3]), 10, 64)
		if err != nil {
			return kernelMemory{}, fmt.Errorf("/proc/slabinfo: %w", err)
		}
		name := string(fields[0])
		if name == "task_struct" {
			k.thread += size
		}
		for _, prefix := range sessionSlabs {
			if strings.HasPrefix(name, prefix) {
				k.sessions += used * size
				break
			}
		}
	}
	return k, nil
}
