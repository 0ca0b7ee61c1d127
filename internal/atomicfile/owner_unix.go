//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package atomicfile

import (
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives temp, which is own, to the owner and group of old.
func keepOwner(temp *os.File, own, old fs.FileInfo) error {
	is, ok := own.Sys().(*syscall.Stat_t)
	was, known := old.Sys().(*syscall.Stat_t)
	if !ok || !known || is.Uid == was.Uid && is.Gid == was.Gid {
		return nil
	}
	return temp.Chown(int(was.Uid), int(was.Gid))
}
