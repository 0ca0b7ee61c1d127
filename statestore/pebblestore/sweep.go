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
	sweepBatch = 256 // shadows, or history entries, that are removed at once
	// sweepHistory is the fraction of the history's age at which it is searched
	// for old entries: a search visits every shadow.
	sweepHistory = 7
)

// Sweep implements statestore.Store. Tombstones that have expired go at once.
// Old history is looked for once in a seventh of its greatest age.
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
	it, err := s.records(ctx, []byte{kindExpiry}, end)
	if err != nil {
		return false, err
	}
	b := s.db.NewBatch()
	defer b.Close()
	n := 0
	for ; n < sweepBatch && (n == 0 && it.First() || n > 0 && it.Next()); n++ {
		expires := int64(binary.BigEndian.Uint64(it.Key()[1:]))
		if err := s.sweepTombstone(b, cutName(it.Key()[9:]), expires); err != nil {
			return false, closeWith(it, err)
		}
	}
	if err := listed(it); err != nil {
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
	if closer != nil && r.Expires == expires {
		forget(b, k, expires)
	} else {
		_ = b.Delete(appendExpiryKey(nil, expires, k), nil)
	}
	if closer == nil {
		return nil
	}
	return closer.Close()
}

// sweepOldHistory removes entries older than oldest: it looks at the first
// entries of each shadow and skips the others. No write depends on them, so it
// does not need the turn.
func (s *Store) sweepOldHistory(ctx context.Context, oldest time.Time) error {
	it, err := s.records(ctx, []byte{kindHistory}, []byte{kindHistory + 1})
	if err != nil {
		return err
	}
	defer it.Close()
	b := s.db.NewBatch()
	defer func() { b.Close() }()
	var next []byte
	for ok := it.First(); ok; {
		e, err := parseEntry(it.Key(), it.Value())
		if err != nil {
			return fmt.Errorf("pebblestore: history %q: %w", it.Key(), err)
		}
		if e.Time >= oldest.UnixMilli() {
			next = historyEnd(next[:0], it.Key())
			ok = it.SeekGE(next)
			continue
		}
		_ = b.Delete(it.Key(), nil)
		if b.Count() >= sweepBatch {
			if err := s.apply(b); err != nil {
				return err
			}
			b.Reset()
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("pebblestore: sweep: %w", err)
		}
		ok = it.Next()
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("pebblestore: sweep: %w", err)
	}
	return s.apply(b)
}

// apply writes b without a sync: what is removed twice is removed.
func (s *Store) apply(b *pebble.Batch) error {
	if b.Empty() {
		return nil
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return s.health.fail(err)
	}
	return s.health.err()
}
