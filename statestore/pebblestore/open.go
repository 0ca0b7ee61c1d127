package pebblestore

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime/debug"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/umbra-iot/umbra/statestore"
)

// format is the version of the data format of this package.
const format = "1"

// Sizes for a small machine; the bulk of a working set is cached as documents above.
const (
	cacheBytes   = 32 << 20
	memTable     = 32 << 20
	walSyncBytes = 1 << 20
	bloomBits    = 10
	compactors   = 2
)

// Open opens the store in a directory, which is created if need be. It fails
// when another process, or this one, has it open, and when the directory
// holds something else or a format that this program does not know.
func Open(dir string, o statestore.Options, po Options) (*Store, error) {
	if po.Log == nil {
		po.Log = slog.New(slog.DiscardHandler)
	}
	if po.FS == nil {
		po.FS = vfs.Default
	}
	if po.OnFailure == nil {
		po.OnFailure = func(error) {}
	}
	lock, err := lockDir(dir, po.FS)
	if err != nil {
		return nil, err
	}
	h := &health{log: po.Log, onFailure: po.OnFailure, closing: make(chan struct{})}
	db, err := pebble.Open(dir, databaseOptions(patient{po.FS, h}, lock, po.OpenFiles, h))
	if err != nil {
		return nil, fmt.Errorf("pebblestore: open %s: %w", dir, closeWith(lock, err))
	}
	s := &Store{
		options: o.WithDefaults(),
		health:  h,
		db:      db,
		lock:    lock,
		turn:    make(chan struct{}, 1),
		stop:    make(chan struct{}),
	}
	err = errors.Join(s.checkFormat(), s.outbox.load(db))
	h.opened.Store(true)
	if err := errors.Join(err, h.err()); err != nil {
		return nil, fmt.Errorf("pebblestore: open %s: %w", dir, errors.Join(err, db.Close(), lock.Close()))
	}
	s.background.Go(s.cleanIdle)
	return s, nil
}

// lockDir creates and locks the directory.
func lockDir(dir string, files vfs.FS) (*pebble.Lock, error) {
	if err := files.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("pebblestore: create %s: %w", dir, err)
	}
	lock, err := pebble.LockDirectory(dir, files)
	var access *fs.PathError
	switch {
	case err == nil:
		return lock, nil
	case errors.As(err, &access): // the lock file cannot be written
		return nil, fmt.Errorf("pebblestore: lock %s: %w", dir, err)
	}
	return nil, fmt.Errorf("pebblestore: %s is in use by another process: %w", dir, err)
}

func databaseOptions(files vfs.FS, lock *pebble.Lock, openFiles int, h *health) *pebble.Options {
	o := &pebble.Options{
		MaxOpenFiles:       openFiles,
		FS:                 logs{files, h},
		Lock:               lock,
		Logger:             h,
		EventListener:      h.listener(),
		FormatMajorVersion: pebble.FormatValueSeparation, // fixed, so that an upgrade of Pebble alone migrates nothing
		CacheSize:          cacheBytes,
		MemTableSize:       memTable,
		WALBytesPerSync:    walSyncBytes,
		CompactionConcurrencyRange: func() (lower, upper int) {
			return 1, compactors
		},
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(bloomBits)
	}
	return o
}

// checkFormat compares the format marker, or writes it to a new database. The
// marker is the format and the version of the program that created the store.
func (s *Store) checkFormat() error {
	value, closer, err := s.db.Get(formatKey())
	if err == nil {
		known, program, _ := strings.Cut(string(value), " ")
		if known != format {
			err = fmt.Errorf("data format %s, created by version %s, is unknown to this program, which knows format %s: use that version or a later one", known, program, format)
		}
		return errors.Join(err, closer.Close())
	}
	if !errors.Is(err, pebble.ErrNotFound) {
		return err
	}
	it, err := s.db.NewIter(nil)
	if err != nil {
		return err
	}
	if it.First() {
		return closeWith(it, errors.New("this Pebble database belongs to another program"))
	}
	if err := it.Close(); err != nil {
		return err
	}
	return s.db.Set(formatKey(), []byte(format+" "+programVersion()), pebble.Sync)
}

func programVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
