package pebblestore

import (
	"context"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/umbra-iot/umbra/statestore"
)

// outboxMany is the number of marks that are written though no commit comes.
const outboxMany = 4096

// mark is an outbox mark: versions from first to last are to be announced.
type mark struct {
	first, last uint64
}

// outbox holds all marks in memory; there are only as many as shadows with a
// message under way. A mark is written with its commit. That it has moved is
// written with some later commit, so that announcing costs no sync.
type outbox struct {
	mu    sync.Mutex // guards what follows
	marks map[statestore.Key]mark
	moved map[statestore.Key]struct{} // marks that differ from what is on disk
}

// load reads the marks of the database.
func (o *outbox) load(db *pebble.DB) error {
	o.marks, o.moved = map[statestore.Key]mark{}, map[statestore.Key]struct{}{}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindOutbox}, UpperBound: []byte{kindOutbox + 1}})
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		m, err := parseMark(it.Value())
		if err != nil {
			return fmt.Errorf("outbox mark %q: %w", it.Key(), closeWith(it, err))
		}
		o.marks[cutName(it.Key()[1:])] = m
	}
	return it.Close()
}

// commit adds the marks of writes that are done, and all moves that wait, to b.
func (o *outbox) commit(b *pebble.Batch, writes []statestore.Write, errs []error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range writes {
		w := &writes[i]
		if w.Announce == 0 || errs != nil && errs[i] != nil {
			continue
		}
		m := mark{first: w.Announce, last: w.Record.Version}
		if old, ok := o.marks[w.Key]; ok {
			m.first = min(m.first, old.first)
		}
		o.marks[w.Key] = m
		o.moved[w.Key] = struct{}{}
	}
	o.writeMoved(b)
}

// writeMoved adds to b what makes the marks on disk equal those in memory. o.mu is held.
func (o *outbox) writeMoved(b *pebble.Batch) {
	var key [256]byte
	for k := range o.moved {
		name := appendName(key[:0], kindOutbox, k)
		m, ok := o.marks[k]
		if !ok {
			_ = b.Delete(name, nil)
			continue
		}
		op := b.SetDeferred(len(name), markLen)
		copy(op.Key, name)
		putMark(op.Value, m)
		_ = op.Finish()
	}
	clear(o.moved)
}

// advance moves marks and returns how many moves wait to be written.
func (o *outbox) advance(marks []statestore.Mark) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range marks {
		old, ok := o.marks[m.Key]
		switch {
		case !ok || m.Version <= old.first:
			continue
		case m.Version > old.last:
			delete(o.marks, m.Key)
		default:
			o.marks[m.Key] = mark{first: m.Version, last: old.last}
		}
		o.moved[m.Key] = struct{}{}
	}
	return len(o.moved)
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

// Announced implements statestore.Store. It is on disk with the next commit, or
// about a second later.
func (s *Store) Announced(ctx context.Context, marks []statestore.Mark) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	if s.outbox.advance(marks) < outboxMany {
		return nil
	}
	return s.flushOutbox(ctx)
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

// flushOutbox writes the moves that wait, without a sync.
func (s *Store) flushOutbox(ctx context.Context) error {
	if err := s.take(ctx); err != nil {
		return err
	}
	defer s.release()
	b := s.db.NewBatch()
	defer b.Close()
	s.outbox.mu.Lock()
	s.outbox.writeMoved(b)
	s.outbox.mu.Unlock()
	if b.Empty() {
		return nil
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return s.health.fail(err)
	}
	return s.health.err()
}
