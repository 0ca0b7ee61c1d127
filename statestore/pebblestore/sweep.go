package pebblestore

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/umbra-iot/umbra/statestore"
)

const (
	sweepBatch = 256 // shadows that are removed at once
	// sweepHistory is the fraction of the history's greatest age at which old
	// history is looked for: that visits every shadow.
	sweepHistory = 7
)

// Sweep implements statestore.Store. Tombstones that have expired go at once.
// The history of shadows that did not change for so long that all of it is old
// is looked for once in a seventh of its greatest age.
func (s *Store) Sweep(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	s.sweepMu.Lock()
	defer s.sweepMu.Unlock()
	for more := true; more; {
		var err error
		if more, err = s.sweepTombstones(ctx); err != nil {
			return err
		}
	}
	if now := s.options.Now(); now.Sub(s.swept) >= s.options.HistoryAge/sweepHistory {
		if err := s.sweepOldHistory(ctx, now.Add(-s.options.HistoryAge)); err != nil {
			return err
		}
		s.swept = now
	}
	return nil
}

// sweepTombstones removes some shadows that have expired. It has the turn, so
// that none of them is written to meanwhile.
func (s *Store) sweepTombstones(ctx context.Context) (more bool, err error) {
	if err := s.take(ctx); err != nil {
		return false, err
	}
	defer s.release()
	end := binary.BigEndian.AppendUint64([]byte{kindExpiry}, uint64(s.options.Now().UnixMilli()+1))
	it, err := s.iterate(ctx, []byte{kindExpiry}, end)
	if err != nil {
		return false, err
	}
	b := s.db.NewBatch()
	defer b.Close()
	n := 0
	for it.First(); it.Valid() && n < sweepBatch; it.Next() {
		expires := int64(binary.BigEndian.Uint64(it.Key()[1:]))
		if err := s.sweepTombstone(b, cutName(it.Key()[9:]), expires); err != nil {
			return false, closeWith(it, err)
		}
		n++
	}
	if err := iterated(it); err != nil {
		return false, err
	}
	return n == sweepBatch, s.apply(b)
}

// sweepTombstone removes the shadow k if its tombstone is still the one that expires then.
func (s *Store) sweepTombstone(b *pebble.Batch, k statestore.Key, expires int64) error {
	r, closer, err := s.get(k)
	if err != nil {
		return err
	}
	if closer == nil || r.Expires != expires {
		_ = b.Delete(appendExpiryKey(nil, expires, k), nil)
	} else {
		forget(b, k, expires)
		s.versions.remove(k)
	}
	if closer == nil {
		return nil
	}
	return closer.Close()
}

// sweepOldHistory removes the history of shadows that last changed before oldest.
func (s *Store) sweepOldHistory(ctx context.Context, oldest time.Time) error {
	it, err := s.iterate(ctx, []byte{kindRecord}, []byte{kindRecord + 1})
	if err != nil {
		return err
	}
	var old []statestore.Key
	for it.First(); it.Valid() && ctx.Err() == nil; it.Next() {
		r, err := parseRecord(it.Value())
		if err != nil {
			return fmt.Errorf("pebblestore: record %q: %w", it.Key(), closeWith(it, err))
		}
		if r.Modified < oldest.UnixMilli() {
			old = append(old, cutName(it.Key()[1:]))
		}
		if len(old) == sweepBatch {
			if err := s.sweepHistories(ctx, old, oldest); err != nil {
				return closeWith(it, err)
			}
			old = old[:0]
		}
	}
	if err := iterated(it); err != nil {
		return err
	}
	return s.sweepHistories(ctx, old, oldest)
}

// sweepHistories removes entries of some shadows that are older than oldest. It
// has the turn, so that no newer ones take their places meanwhile.
func (s *Store) sweepHistories(ctx context.Context, keys []statestore.Key, oldest time.Time) error {
	if err := s.take(ctx); err != nil {
		return err
	}
	defer s.release()
	b := s.db.NewBatch()
	defer b.Close()
	for _, k := range keys {
		from, to := historyBounds(k)
		it, err := s.iterate(ctx, from, to)
		if err != nil {
			return err
		}
		for it.First(); it.Valid(); it.Next() {
			e, err := parseEntry(it.Value())
			if err != nil {
				return fmt.Errorf("pebblestore: history of %q %q: %w", k.Thing, k.Shadow, closeWith(it, err))
			}
			if e.Time < oldest.UnixMilli() {
				_ = b.Delete(it.Key(), nil)
			}
		}
		if err := iterated(it); err != nil {
			return err
		}
	}
	return s.apply(b)
}

// apply writes b without a sync: what it removes may as well be removed again.
func (s *Store) apply(b *pebble.Batch) error {
	if b.Empty() {
		return nil
	}
	if err := s.health.guard(func() error { return b.Commit(pebble.NoSync) }); err != nil {
		return s.health.fail(err)
	}
	return s.health.err()
}
