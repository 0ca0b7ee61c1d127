package reload

import (
	"io/fs"
	"syscall"
)

// changedAt returns when a file was changed in any way, in ns since the epoch, which nobody can choose; 0 when that is not
// known.
func changedAt(info fs.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ctim.Nano()
	}
	return 0
}
