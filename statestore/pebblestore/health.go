package pebblestore

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// health knows whether the database can still be trusted, and is the logger
// that tells it so.
type health struct {
	log       *slog.Logger
	onFailure func(error)
	opened    atomic.Bool           // failures from now on are not those of Open
	once      sync.Once             // for the first failure
	failed    atomic.Pointer[error] // the first failure, with what it means
	flushes   atomic.Int64          // that failed, one after the other
	closing   chan struct{}         // closed by Close: nothing pauses any more
}

var _ pebble.Logger = (*health)(nil)

// fail ends the use of the database: after a failed write or sync, what it
// holds in memory may not be on disk, and trying again would not tell.
func (h *health) fail(cause error) error {
	h.once.Do(func() {
		err := fmt.Errorf("pebblestore: out of service until it is opened again: %w", cause)
		h.failed.Store(&err)
		h.log.Error("storage failed; nothing more is stored until a restart", "err", cause)
		if h.opened.Load() {
			h.onFailure(err)
		}
	})
	return *h.failed.Load()
}

// guard makes a failure of a panic, which is what Pebble does when it cannot end a log or begin the next one.
func (h *health) guard(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = h.fail(fmt.Errorf("pebble: %v", p))
		}
	}()
	return do()
}

// err returns the failure, if any. Nobody hears of it before OnFailure has returned: what that says is the last word of
// a process that it ends.
func (h *health) err() error {
	if h.failed.Load() == nil {
		return nil
	}
	return h.fail(nil)
}

// Infof implements pebble.Logger.
func (h *health) Infof(format string, args ...any) {
	h.log.Debug("pebble", "event", fmt.Sprintf(format, args...))
}

// Errorf implements pebble.Logger.
func (h *health) Errorf(format string, args ...any) {
	h.log.Warn("pebble", "event", fmt.Sprintf(format, args...))
}

// Fatalf implements pebble.Logger. It does not end the process, because reads
// under way and the rest of the program can end in order; the store is out of
// service from here on.
func (h *health) Fatalf(format string, args ...any) {
	_ = h.fail(fmt.Errorf(format, args...))
}

// listener reports what an operator should know.
func (h *health) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			if !errors.Is(err, pebble.ErrCancelledCompaction) {
				h.log.Warn("storage has a problem in the background and will try again", "err", err.Error())
			}
		},
		FlushEnd: func(i pebble.FlushInfo) { h.flushed(i.Err) },
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			h.log.Error("stored data is damaged", "path", i.Path, "err", i.Details.Error())
		},
		DiskSlow: func(i pebble.DiskSlowInfo) {
			h.log.Warn("disk is slow", "path", i.Path, "op", i.OpType.String(), "duration", i.Duration)
		},
		WriteStallBegin: func(i pebble.WriteStallBeginInfo) {
			h.log.Warn("writes wait for compactions", "reason", i.Reason)
		},
		WriteStallEnd: func() { h.log.Info("writes go on") },
	}
}

// emptyTable is what Pebble says of a flush that had nothing to write; it is not a failure.
const emptyTable = "pebble: empty table"

// flushed notes how a flush has ended. Pebble opens nothing before a flush of what the last process left has
// succeeded, and cannot be told to give up.
func (h *health) flushed(err error) {
	if err == nil || err.Error() == emptyTable {
		h.flushes.Store(0)
		return
	}
	h.flushes.Add(1)
	if !h.opened.Load() {
		h.onFailure(fmt.Errorf("pebblestore: open: %w", err))
	}
}

// Pauses before another attempt of a flush that failed. Pebble itself makes none.
const (
	firstPause = 10 * time.Millisecond // then twice as long each time
	mostPause  = time.Second
)

// patient is a file system that pauses before it creates a table when flushes fail. Pebble holds no lock then.
type patient struct {
	vfs.FS
	health *health
}

// Create implements vfs.FS.
func (p patient) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if n := p.health.flushes.Load(); n > 0 && filepath.Ext(name) == ".sst" {
		select {
		case <-p.health.closing:
		case <-time.After(min(firstPause<<min(n, 10), mostPause)):
		}
	}
	return p.FS.Create(name, category) //nolint:wrapcheck // it is that of the file system
}
