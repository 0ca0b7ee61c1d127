package main

import (
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/umbra-iot/umbra/internal/config"
)

// choosesPort reports whether only the ready line can tell a port.
func choosesPort(cfg *config.Config) bool {
	return slices.ContainsFunc(cfg.All(), func(l config.Listener) bool { return strings.HasSuffix(l.Address, ":0") })
}

// wasClosed reports whether f looks like what the Go runtime puts in the place of a standard file that is closed at
// start: the null device, open for reading and writing. A shell opens it for writing only.
func wasClosed(f *os.File) bool {
	null, err := os.Stat(os.DevNull)
	if err != nil {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return true
	}
	if !os.SameFile(null, info) {
		return false
	}
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), syscall.F_GETFL, 0)
	return errno == 0 && flags&syscall.O_ACCMODE == syscall.O_RDWR
}
