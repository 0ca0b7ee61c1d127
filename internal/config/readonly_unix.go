//go:build unix

package config

import (
	"errors"
	"syscall"
)

// isReadOnly reports whether a file is on a file system that nobody may write to, whatever its mode says.
func isReadOnly(name string) bool {
	const write = 2 // W_OK
	return errors.Is(syscall.Access(name, write), syscall.EROFS)
}
