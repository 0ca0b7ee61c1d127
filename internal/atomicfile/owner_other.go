//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package atomicfile

import (
	"io/fs"
	"os"
)

// keepOwner does nothing: this system has no owners that Go knows of.
func keepOwner(*os.File, fs.FileInfo, fs.FileInfo) error { return nil }
