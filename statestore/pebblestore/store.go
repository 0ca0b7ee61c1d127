// Package pebblestore keeps shadows in a directory of this machine, in a Pebble
// database. It needs nothing but the directory and is the default.
//
// Durability: a commit is acknowledged after it was synced to disk, so it
// survives kill -9 and power loss. Commits of concurrent callers share a sync.
// After a write or sync has failed, the store refuses everything until it is
// opened again. Blocks and log records carry checksums. A Load may see a write
// whose Commit has not returned yet.
package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/umbra-iot/umbra/statestore"
)

// cleanEvery is how long outbox entries that are done may wait for a commit to
// remove them.
const cleanEvery = time.Second

// Options are what only this store needs. The zero value means the defaults.
type Options struct {
	Log *slog.Logger // default: nothing is logged
	FS  vfs.FS       // default: that of the operating system

	// OpenFiles is about how many files the store keeps open; default 1000.
	OpenFiles int

	// OnFailure is called when a write or a sync has failed and the store is out of service, and when Open cannot go
	// on for want of a disk that takes what it has to write: then Open tries again and again. It may end the
	// process; it must not call the store. Default: nothing is called.
	OnFailure func(error)
}

// Store is a statestore.Store in a Pebble database.
type Store struct {
	options statestore.Options
	health  *health
	outbox  outbox

	life   sync.RWMutex // held for reading by every method under way, for writing by Close
	closed bool         // guarded by life
	db     *pebble.DB
	lock   *pebble.Lock

	// turn holds one token: whoever has it checks versions and applies a batch,
	// so that batches reach the log in the order in which they were checked.
	turn     chan struct{}
	versions versions // used by who has the turn

	// late is the sync that the most recent caller did not wait for because its
	// context ended; until it is over nobody may see what it writes.
	late atomic.Pointer[lateSync]

	stop       chan struct{}
	background sync.WaitGroup

	sweepMu sync.Mutex // serializes Sweep and guards swept
	swept   time.Time  // when the history was last searched for old entries
}

var _ statestore.Store = (*Store)(nil)

// lateSync is a sync that nobody waits for.
type lateSync struct{ done chan struct{} }

// Load implements statestore.Store.
func (s *Store) Load(ctx context.Context, keys []statestore.Key) ([]statestore.Record, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	records := make([]statestore.Record, len(keys))
	for i, k := range keys {
		err := s.view(k, func(r statestore.Record) {
			r.Body = bytes.Clone(r.Body)
			records[i] = r
		})
		if err != nil {
			return nil, err
		}
	}
	return records, nil
}

// view calls fn with the record of k, unless there is none or it has expired.
// The record's Body is only valid during fn.
func (s *Store) view(k statestore.Key, fn func(statestore.Record)) error {
	r, closer, err := s.get(k)
	if err != nil || closer == nil {
		return err
	}
	if !r.ExpiredAt(s.options.Now()) {
		fn(r)
	}
	return closer.Close()
}

// closer ends the use of a record's Body.
type closer interface{ Close() error }

// get returns the record of k, expired or not. Without one, closer is nil.
func (s *Store) get(k statestore.Key) (statestore.Record, closer, error) {
	var buf [256]byte
	value, c, err := s.db.Get(appendName(buf[:0], kindRecord, k))
	if errors.Is(err, pebble.ErrNotFound) {
		return statestore.Record{}, nil, nil
	}
	if err != nil {
		return statestore.Record{}, nil, fmt.Errorf("pebblestore: load: %w", err)
	}
	r, err := parseRecord(value)
	if err != nil {
		return statestore.Record{}, nil, fmt.Errorf("pebblestore: record of %q %q: %w", k.Thing, k.Shadow, closeWith(c, err))
	}
	return r, c, nil
}

// Commit implements statestore.Store.
func (s *Store) Commit(ctx context.Context, writes []statestore.Write) []error {
	if err := s.begin(ctx); err != nil {
		return repeat(err, writes)
	}
	defer s.end()
	if err := s.take(ctx); err != nil {
		return repeat(err, writes)
	}
	b := s.db.NewBatch()
	errs := s.prepare(b, writes)
	s.outbox.commit(b, writes, errs)
	err := s.write(ctx, b)
	if err == nil {
		return errs
	}
	if errs == nil {
		return repeat(err, writes)
	}
	for i := range errs {
		if errs[i] == nil {
			errs[i] = err
		}
	}
	return errs
}

// write applies b, gives the turn to the next and waits for b to be on disk, or for ctx.
func (s *Store) write(ctx context.Context, b *pebble.Batch) error {
	if b.Empty() {
		s.release()
		return b.Close()
	}
	if ctx.Done() == nil {
		return s.applied(b)
	}
	result := make(chan error, 1)
	late := &lateSync{done: make(chan struct{})}
	s.background.Go(func() {
		result <- s.applied(b)
		close(late.done)
	})
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		s.late.Store(late)
		return fmt.Errorf("pebblestore: commit may or may not be done: %w", ctx.Err())
	}
}

// applied applies b, which takes long when tables cannot be written as fast as the log, gives the turn to the next and
// waits for b to be on disk.
func (s *Store) applied(b *pebble.Batch) error {
	err := s.health.guard(func() error { return s.db.ApplyNoSyncWait(b, pebble.Sync) })
	s.release()
	if err != nil {
		return s.health.fail(err)
	}
	return s.synced(b)
}

// synced waits for b to be on disk.
func (s *Store) synced(b *pebble.Batch) error {
	err := b.SyncWait()
	if err != nil {
		// b is not closed: the failed log may still refer to it.
		return s.health.fail(fmt.Errorf("sync: %w", err))
	}
	_ = b.Close()
	return s.health.err()
}

// Shared implements statestore.Store: the directory is locked.
func (s *Store) Shared() bool { return false }

// Ping implements statestore.Store. It fails when the store is out of service
// or a sync takes longer than its caller had time.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	s.end()
	return nil
}

// Close implements statestore.Store.
func (s *Store) Close() error {
	s.life.Lock()
	if s.closed {
		s.life.Unlock()
		return nil
	}
	s.closed = true
	close(s.stop)
	close(s.health.closing)
	s.life.Unlock()
	s.background.Wait()
	var err error
	if s.health.err() == nil {
		b := s.db.NewBatch()
		s.outbox.compact(b)
		err = errors.Join(s.apply(b), b.Close())
	}
	return errors.Join(err, s.db.Close(), s.lock.Close())
}

// begin enters a method: the store is open, sound, and what it shows is on
// disk. The caller calls end when begin returned nil.
func (s *Store) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("pebblestore: %w", err)
	}
	if late := s.late.Load(); late != nil {
		select {
		case <-late.done:
			s.late.CompareAndSwap(late, nil)
		case <-ctx.Done():
			return fmt.Errorf("pebblestore: disk does not answer: %w", ctx.Err())
		}
	}
	s.life.RLock()
	err := s.health.err()
	if s.closed {
		err = statestore.ErrClosed
	}
	if err != nil {
		s.life.RUnlock()
	}
	return err
}

func (s *Store) end() { s.life.RUnlock() }

// take waits for the turn to apply a batch.
func (s *Store) take(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("pebblestore: not done, writes are slow: %w", ctx.Err())
	}
}

func (s *Store) release() { <-s.turn }

// cleanIdle cleans the outbox when no commit does, until stop.
func (s *Store) cleanIdle() {
	tick := time.NewTicker(cleanEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), cleanEvery)
		if err := s.begin(ctx); err == nil {
			_ = s.cleanOutbox(ctx) // the store knows of failures, and there is a next time
			s.end()
		}
		cancel()
	}
}

func repeat(err error, writes []statestore.Write) []error {
	return slices.Repeat([]error{err}, len(writes))
}

// closeWith closes c and returns err, the reason for it.
func closeWith(c closer, err error) error {
	return errors.Join(err, c.Close())
}
