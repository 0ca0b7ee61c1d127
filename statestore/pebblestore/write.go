package pebblestore

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/umbra-iot/umbra/statestore"
)

// prepare checks writes against what is stored and adds those that hold to b.
// errs is nil when all do. It needs the turn.
//
// Methods of a Batch that is open and not indexed fail only for invalid use,
// so their errors are not looked at.
func (s *Store) prepare(b *pebble.Batch, writes []statestore.Write) (errs []error) {
	for i := range writes {
		if err := s.prepareOne(b, &writes[i]); err != nil {
			if errs == nil {
				errs = make([]error, len(writes))
			}
			errs[i] = err
		}
	}
	return errs
}

func (s *Store) prepareOne(b *pebble.Batch, w *statestore.Write) error {
	old, closer, err := s.get(w.Key)
	if err != nil {
		return err
	}
	if closer != nil {
		if err := closer.Close(); err != nil {
			return fmt.Errorf("pebblestore: load: %w", err)
		}
	}
	old.Body = nil
	expired := old.ExpiredAt(s.options.Now())
	if expired && w.Expect != 0 || !expired && w.Expect != old.Version {
		return statestore.ErrConflict
	}
	if expired {
		forget(b, w.Key, old.Expires)
	}
	s.addHistory(b, w)
	s.addRecord(b, w)
	return nil
}

func (s *Store) addRecord(b *pebble.Batch, w *statestore.Write) {
	var buf [256]byte
	key := appendName(buf[:0], kindRecord, w.Key)
	op := b.SetDeferred(len(key), recordHeader+len(w.Record.Body))
	copy(op.Key, key)
	putRecord(op.Value, &w.Record)
	_ = op.Finish()
	if w.Record.Expires != 0 {
		_ = b.Set(appendExpiryKey(buf[:0], w.Record.Expires, w.Key), nil, nil)
	}
}

// addHistory adds the entries of w and removes those that they push out.
func (s *Store) addHistory(b *pebble.Batch, w *statestore.Write) {
	var buf [256]byte
	limit := s.options.HistoryLimit
	oldest := oldestKept(w.Record.Version, limit)
	for i := range w.History {
		e := &w.History[i]
		if e.Version < oldest {
			continue
		}
		key := appendHistoryKey(buf[:0], w.Key, e.Version)
		op := b.SetDeferred(len(key), historyHeader+len(e.Body))
		copy(op.Key, key)
		putEntry(op.Value, e)
		_ = op.Finish()
	}
	if w.Expect == 0 || limit == 0 {
		return
	}
	for v := oldestKept(w.Expect, limit); v < oldest && v <= w.Expect; v++ {
		_ = b.Delete(appendHistoryKey(buf[:0], w.Key, v), nil)
	}
}

// forget removes all of a shadow whose tombstone has expired.
func forget(b *pebble.Batch, k statestore.Key, expires int64) {
	var from, to [256]byte
	_ = b.Delete(appendName(from[:0], kindRecord, k), nil)
	_ = b.Delete(appendExpiryKey(from[:0], expires, k), nil)
	first := appendHistoryKey(from[:0], k, 0)
	_ = b.DeleteRange(first, historyEnd(to[:0], first), nil)
}
