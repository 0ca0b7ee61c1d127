// Package faultfs is a file system for tests whose disk fails when it is told to: the vfs of Pebble, on real files.
//
// What the disk does wrong is said in a file that is read before each operation, so that a test can say it to
// another process ([Tell]). No program carries this package but a umbrad that was built with the tag torture.
package faultfs

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Faults that a disk can have. The text after the first word is an argument.
const (
	None       = ""            // all is well
	Full       = "full"        // nothing can be written (ENOSPC)
	TablesFull = "tables-full" // the log can be written, tables cannot (ENOSPC)
	SyncError  = "sync-error"  // what was written cannot be synced (EIO)
	Slow       = "slow"        // a sync takes so much longer: "slow 50ms"
	Hang       = "hang"        // a sync ends when the fault does

	// PowerCut ends the process within the next write to a log: a part of it is written, and of what was not synced
	// all behind a random place is lost.
	PowerCut = "power-cut"
)

// hangPoll is how often a hanging sync looks whether it is over.
const hangPoll = 2 * time.Millisecond

// Tell has all file systems that listen to the file control do what fault says.
func Tell(control, fault string) error {
	next := control + ".new"
	if err := os.WriteFile(next, []byte(fault), 0o600); err != nil {
		return err
	}
	return os.Rename(next, control)
}

// New returns a file system of the operating system's that obeys the file control. While there is no such file, all is
// well. die ends the process, at a power cut; it must not return.
func New(control string, die func()) vfs.FS {
	return &files{FS: vfs.Default, control: control, die: die, logs: map[*file]struct{}{}}
}

// files is a file system.
type files struct {
	vfs.FS
	control string
	die     func()

	mu   sync.Mutex         // guards logs and serializes a power cut with writes to logs
	logs map[*file]struct{} // open logs
}

// told returns the fault and its argument.
func (f *files) told() (fault, argument string) {
	text, err := os.ReadFile(f.control)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		panic(err) // a test would pass that tests nothing
	}
	fault, argument, _ = strings.Cut(strings.TrimSpace(string(text)), " ")
	return fault, argument
}

// writable fails for a file that cannot be written now.
func (f *files) writable(op, name string) error {
	fault, _ := f.told()
	if fault == Full || fault == TablesFull && filepath.Ext(name) == ".sst" {
		return &fs.PathError{Op: op, Path: name, Err: syscall.ENOSPC}
	}
	return nil
}

// Create implements vfs.FS.
func (f *files) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.writable("create", name); err != nil {
		return nil, err
	}
	return f.wrap(name)(f.FS.Create(name, category))
}

// ReuseForWrite implements vfs.FS.
func (f *files) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.writable("reuse", newname); err != nil {
		return nil, err
	}
	return f.wrap(newname)(f.FS.ReuseForWrite(oldname, newname, category))
}

func (f *files) wrap(name string) func(vfs.File, error) (vfs.File, error) {
	return func(inner vfs.File, err error) (vfs.File, error) {
		if err != nil {
			return nil, err
		}
		w := &file{File: inner, fs: f, name: name, log: filepath.Ext(name) == ".log"}
		if w.log {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.logs[w] = struct{}{}
		}
		return w, nil
	}
}

// powerCut loses what is not synced, in part, and ends the process. mu is held.
func (f *files) powerCut() {
	for l := range f.logs {
		if err := os.Truncate(l.name, l.synced+rand.Int64N(l.written-l.synced+1)); err != nil {
			panic(err)
		}
	}
	f.die()
}

// file is a file that is being written. Its user calls Write and the syncs one after the other.
type file struct {
	vfs.File
	fs   *files
	name string
	log  bool

	written, synced int64 // bytes
}

// Write implements vfs.File.
func (w *file) Write(p []byte) (int, error) {
	if err := w.fs.writable("write", w.name); err != nil {
		return 0, err
	}
	if !w.log {
		return w.File.Write(p) //nolint:wrapcheck // it is that of the file
	}
	w.fs.mu.Lock()
	defer w.fs.mu.Unlock()
	cut := false
	if fault, _ := w.fs.told(); fault == PowerCut {
		cut, p = true, p[:rand.IntN(len(p)+1)]
	}
	n, err := w.File.Write(p)
	w.written += int64(n)
	if cut {
		w.fs.powerCut()
	}
	return n, err
}

// Sync implements vfs.File.
func (w *file) Sync() error { return w.sync(w.File.Sync) }

// SyncData implements vfs.File.
func (w *file) SyncData() error { return w.sync(w.File.SyncData) }

func (w *file) sync(do func() error) error {
	fault, argument := w.fs.told()
	switch fault {
	case SyncError:
		return &fs.PathError{Op: "sync", Path: w.name, Err: syscall.EIO}
	case Slow:
		d, err := time.ParseDuration(argument)
		if err != nil {
			return fmt.Errorf("faultfs: %s %q: %w", fault, argument, err)
		}
		time.Sleep(d)
	case Hang:
		for fault == Hang {
			time.Sleep(hangPoll)
			fault, _ = w.fs.told()
		}
	}
	if err := do(); err != nil {
		return err
	}
	w.fs.mu.Lock()
	defer w.fs.mu.Unlock()
	w.synced = w.written
	return nil
}

// Close implements vfs.File.
func (w *file) Close() error {
	w.fs.mu.Lock()
	delete(w.fs.logs, w)
	w.fs.mu.Unlock()
	return w.File.Close() //nolint:wrapcheck // it is that of the file
}
