package pebblestore

import (
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
	v, err := s.version(w.Key)
	if err != nil {
		return err
	}
	expired := v.expired(s.options.Now())
	if expired && w.Expect != 0 || !expired && w.Expect != v.number {
		return statestore.ErrConflict
	}
	if expired {
		forget(b, w.Key, v.expires)
	}
	s.addRecord(b, w)
	s.addHistory(b, w)
	s.versions.put(w.Key, version{w.Record.Version, w.Record.Expires})
	return nil
}

// version returns the version of a shadow, from memory or the database.
func (s *Store) version(k statestore.Key) (version, error) {
	if v, ok := s.versions.get(k); ok {
		return v, nil
	}
	var v version
	err := s.view(k, func(r statestore.Record) { v = version{r.Version, r.Expires} })
	return v, err
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

// addHistory adds the entries of w, which take the place of those that are too old.
func (s *Store) addHistory(b *pebble.Batch, w *statestore.Write) {
	var buf [256]byte
	oldest := oldestKept(w.Record.Version, s.options.HistoryLimit)
	for i := range w.History {
		e := &w.History[i]
		if e.Version < oldest {
			continue
		}
		key := appendHistoryKey(buf[:0], w.Key, e.Version%uint64(s.options.HistoryLimit))
		op := b.SetDeferred(len(key), historyHeader+len(e.Body))
		copy(op.Key, key)
		putEntry(op.Value, e)
		_ = op.Finish()
	}
}

// forget removes all of a shadow whose tombstone has expired.
func forget(b *pebble.Batch, k statestore.Key, expires int64) {
	var buf [256]byte
	_ = b.Delete(appendName(buf[:0], kindRecord, k), nil)
	_ = b.Delete(appendExpiryKey(buf[:0], expires, k), nil)
	from, to := historyBounds(k)
	_ = b.DeleteRange(from, to, nil)
}
