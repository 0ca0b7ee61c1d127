package pebblestore

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// health knows whether the database can still be trusted, and is the logger
// that tells it so.
type health struct {
	log    *slog.Logger
	failed atomic.Pointer[error] // the first failure, with what it means
}

var _ pebble.Logger = (*health)(nil)

// fail ends the use of the database: after a failed write or sync, what it
// holds in memory may not be on disk, and trying again would not tell.
func (h *health) fail(cause error) error {
	err := fmt.Errorf("pebblestore: out of service until it is opened again: %w", cause)
	if h.failed.CompareAndSwap(nil, &err) {
		h.log.Error("storage failed; nothing more is stored until a restart", "err", cause)
	}
	return *h.failed.Load()
}

// err returns the failure, if any.
func (h *health) err() error {
	if err := h.failed.Load(); err != nil {
		return *err
	}
	return nil
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
				h.log.Warn("storage has a problem in the background and will try again", "err", err)
			}
		},
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			h.log.Error("stored data is damaged", "path", i.Path, "err", i.Details)
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
