package gateway

import (
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// processTime is the time this process has spent on processors.
func processTime() (time.Duration, error) {
	var created, exited, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(windows.CurrentProcess(), &created, &exited, &kernel, &user); err != nil {
		return 0, os.NewSyscallError("GetProcessTimes", err)
	}
	return time.Duration(ticks(kernel)+ticks(user)) * 100, nil
}

// ticks is a span of time in units of 100 ns: as a moment, Filetime.Nanoseconds would count it from another year.
func ticks(f windows.Filetime) int64 { return int64(f.HighDateTime)<<32 | int64(f.LowDateTime) }
