package pebblestore

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/umbra-iot/umbra/statestore"
)

// outboxMany is the number of finished entries that are removed though no
// commit comes to take that along.
const outboxMany = 1024

// outbox holds all marks in memory; there are only as many as shadows with a
// message under way. On disk there is one entry for each batch of commits, with
// the marks of its shadows. An entry is removed by some later batch, once its
// shadows are announced or have a newer entry, so announcing costs no sync.
type outbox struct {
	mu    sync.Mutex // guards what follows
	next  uint64     // number of the next entry
	marks map[statestore.Key]mark
	done  []uint64 // entries that can be removed
	buf   []byte
}

// mark says that versions from first to last have to be announced.
type mark struct {
	first, last uint64
	entry       *entry // where it is on disk
}

// entry is an outbox entry on disk.
type entry struct {
	number uint64
	open   int // marks for which it is needed
}

// load reads the entries of the database.
func (o *outbox) load(db *pebble.DB) error {
	o.marks = map[statestore.Key]mark{}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindOutbox}, UpperBound: []byte{kindOutbox + 1}})
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		e := &entry{number: binary.BigEndian.Uint64(it.Key()[1:])}
		o.next = e.number + 1
		for rest := it.Value(); len(rest) > 0; {
			var k statestore.Key
			var m mark
			if k, m, rest, err = cutMark(rest); err != nil {
				return fmt.Errorf("outbox entry %d: %w", e.number, closeWith(it, err))
			}
			o.put(k, m, e)
		}
		if e.open == 0 {
			o.done = append(o.done, e.number)
		}
	}
	return it.Close()
}

// put makes e the entry of a mark. o.mu is held.
func (o *outbox) put(k statestore.Key, m mark, e *entry) {
	if old, ok := o.marks[k]; ok {
		o.leave(old.entry)
	}
	m.entry = e
	e.open++
	o.marks[k] = m
}

// leave notes that e is needed for one mark less. o.mu is held.
func (o *outbox) leave(e *entry) {
	if e.open--; e.open == 0 {
		o.done = append(o.done, e.number)
	}
}

// commit adds an entry with the marks of the writes that hold to b, and removes
// those that are done.
func (o *outbox) commit(b *pebble.Batch, writes []statestore.Write, errs []error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e := &entry{number: o.next}
	o.buf = o.buf[:0]
	for i := range writes {
		w := &writes[i]
		if w.Announce == 0 || errs != nil && errs[i] != nil {
			continue
		}
		m := mark{first: w.Announce, last: w.Record.Version}
		if old, ok := o.marks[w.Key]; ok {
			m.first = min(m.first, old.first)
		}
		o.buf = appendMark(o.buf, w.Key, m)
		o.put(w.Key, m, e)
	}
	if e.open > 0 {
		o.next++
		_ = b.Set(outboxKey(e.number), o.buf, nil)
	}
	o.clean(b)
}

// compact leaves one entry, with the marks as they are now.
func (o *outbox) compact(b *pebble.Batch) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e := &entry{number: o.next}
	o.buf = o.buf[:0]
	for k, m := range o.marks {
		o.buf = appendMark(o.buf, k, m)
		o.put(k, m, e)
	}
	if e.open > 0 {
		o.next++
		_ = b.Set(outboxKey(e.number), o.buf, nil)
	}
	o.clean(b)
}

// clean removes entries that are done. o.mu is held.
func (o *outbox) clean(b *pebble.Batch) {
	for _, number := range o.done {
		_ = b.Delete(outboxKey(number), nil)
	}
	o.done = o.done[:0]
}

// announced moves marks and returns how many entries wait to be removed.
func (o *outbox) announced(marks []statestore.Mark) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range marks {
		m, ok := o.marks[a.Key]
		switch {
		case !ok || a.Version <= m.first:
		case a.Version > m.last:
			delete(o.marks, a.Key)
			o.leave(m.entry)
		default: // on disk with its next entry
			m.first = a.Version
			o.marks[a.Key] = m
		}
	}
	return len(o.done)
}

// list returns all marks.
func (o *outbox) list() []statestore.Mark {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := make([]statestore.Mark, 0, len(o.marks))
	for k, m := range o.marks {
		list = append(list, statestore.Mark{Key: k, Version: m.first})
	}
	return list
}

// Announced implements statestore.Store. It is on disk with a later commit, or
// about a second later.
func (s *Store) Announced(ctx context.Context, marks []statestore.Mark) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	if s.outbox.announced(marks) < outboxMany {
		return nil
	}
	return s.cleanOutbox(ctx)
}

// Unannounced implements statestore.Store.
func (s *Store) Unannounced(ctx context.Context, fn func(statestore.Mark) error) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	marks := s.outbox.list()
	s.end()
	for _, m := range marks {
		if err := fn(m); err != nil {
			return err
		}
	}
	return nil
}

// cleanOutbox removes entries that are done, without a sync.
func (s *Store) cleanOutbox(ctx context.Context) error {
	if err := s.take(ctx); err != nil {
		return err
	}
	defer s.release()
	b := s.db.NewBatch()
	defer b.Close()
	s.outbox.mu.Lock()
	s.outbox.clean(b)
	s.outbox.mu.Unlock()
	return s.apply(b)
}
