package resolver

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// hostsInterval is how often at most the hosts file is looked at for changes.
const hostsInterval = 5 * time.Second

// hosts is a hosts file that follows changes of the file. A nil *hosts knows no names.
type hosts struct {
	path string
	log  *slog.Logger

	table   atomic.Pointer[map[string]entry]
	checked atomic.Int64 // when the file was last looked at, in nanoseconds of Unix time

	mu     sync.Mutex // held while looking; guards the following
	mtime  time.Time
	size   int64
	failed bool // the last look did not succeed, and that was logged
}

// openHosts reads the file at path, or the platform's own if path is empty; that one need not exist.
func openHosts(path string, log *slog.Logger) (*hosts, error) {
	h := &hosts{path: path, log: log}
	h.table.Store(&map[string]entry{})
	if path == "" {
		own, err := systemHostsFile()
		if err != nil {
			return nil, fmt.Errorf("find the system's hosts file: %w; name one", err)
		}
		h.path = own
		h.refresh(time.Now())
		return h, nil
	}
	if err := h.load(); err != nil {
		return nil, fmt.Errorf("hosts file %q: %w; name a readable file, or none for the system's own", path, err)
	}
	h.checked.Store(time.Now().UnixNano())
	return h, nil
}

// lookup returns what the file says of name, looking at the file again first when it is time to.
func (h *hosts) lookup(name string) (entry, bool) {
	if h == nil {
		return entry{}, false
	}
	// Also after a step back of the clock: then the difference is negative.
	now := time.Now()
	if since := now.UnixNano() - h.checked.Load(); since < 0 || since >= int64(hostsInterval) {
		h.refresh(now)
	}
	e, known := (*h.table.Load())[name]
	return e, known
}

// refresh reads the file if it has changed. One caller does; others go on with what was known. A file that is
// gone has no names; one that cannot be read now keeps those it had, as it may just be rewritten.
func (h *hosts) refresh(now time.Time) {
	if !h.mu.TryLock() {
		return
	}
	defer h.mu.Unlock()
	err := h.load()
	h.checked.Store(now.UnixNano())
	if errors.Is(err, fs.ErrNotExist) {
		h.table.Store(&map[string]entry{})
		h.mtime, h.size = time.Time{}, 0
		err = nil
	}
	if err != nil && !h.failed {
		h.log.Warn("hosts file cannot be read", "path", h.path, "error", err)
	}
	h.failed = err != nil
}

// load reads the file unless its time and size are those of the last reading.
func (h *hosts) load() error {
	info, err := os.Stat(h.path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return errors.New("is a directory")
	}
	if info.ModTime().Equal(h.mtime) && info.Size() == h.size {
		return nil
	}
	var data []byte
	if info.Mode().IsRegular() { // reading a device might never end
		if data, err = os.ReadFile(h.path); err != nil {
			return err
		}
	}
	table := parseHosts(string(data))
	h.table.Store(&table)
	h.mtime, h.size = info.ModTime(), info.Size()
	return nil
}

// parseHosts reads lines of an address and its names, as hosts(5) describes them, and skips what is none. A
// name's addresses are those of all its lines; a name with only an address that means "nowhere" is known to
// have none.
func parseHosts(text string) map[string]entry {
	table := make(map[string]entry)
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) { // Windows editors leave a byte order mark
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		for _, field := range fields[1:] {
			name, literal, err := parseHost(field)
			if err != nil || literal.IsValid() {
				continue
			}
			table[name] = entry{addrs: appendUsable(table[name].addrs, addr)}
		}
	}
	for name, e := range table {
		if len(e.addrs) == 0 {
			table[name] = entry{negative: fmt.Errorf("hosts file: %w", ErrNotFound)}
		}
	}
	return table
}
