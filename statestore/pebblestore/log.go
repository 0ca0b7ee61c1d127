package pebblestore

import (
	"fmt"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// logs is a file system whose failures with the log of the database are the end of its use, before Pebble hears of
// them: where Pebble ends a log and begins the next one it panics, with a lock in a state that nobody can recover from.
type logs struct {
	vfs.FS
	health *health
}

// Create implements vfs.FS.
func (l logs) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.Create(name, category)
	return l.open(name, f, err)
}

// ReuseForWrite implements vfs.FS.
func (l logs) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.ReuseForWrite(oldname, newname, category)
	return l.open(newname, f, err)
}

func (l logs) open(name string, f vfs.File, err error) (vfs.File, error) {
	switch {
	case filepath.Ext(name) != ".log":
		return f, err
	case err != nil:
		return nil, l.failed(err)
	}
	return logFile{f, l}, nil
}

// failed ends the use of the database if err is a failure. Open reports its own.
func (l logs) failed(err error) error {
	if err != nil && l.health.opened.Load() {
		_ = l.health.fail(fmt.Errorf("log: %w", err))
	}
	return err
}

// logFile is a log that is being written.
type logFile struct {
	vfs.File
	logs logs
}

// Write implements vfs.File.
func (f logFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.logs.failed(err)
}

// Sync implements vfs.File.
func (f logFile) Sync() error { return f.logs.failed(f.File.Sync()) }

// SyncData implements vfs.File.
func (f logFile) SyncData() error { return f.logs.failed(f.File.SyncData()) }

// Close implements vfs.File.
func (f logFile) Close() error { return f.logs.failed(f.File.Close()) }
