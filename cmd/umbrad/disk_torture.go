//go:build torture

package main

import (
	"os"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/umbra-iot/umbra/internal/faultfs"
)

// disk is a file system that fails when the file in the variable TORTURE_DISK says so, for the tests of test/e2e.
func disk() vfs.FS {
	control := os.Getenv("TORTURE_DISK")
	if control == "" {
		return nil
	}
	return faultfs.New(control, func() {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until the signal is there
	})
}
