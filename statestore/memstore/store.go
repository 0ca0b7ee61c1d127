// Package memstore keeps shadows in memory: for tests, and for who wants a
// local shadow service that is up at once and forgets everything at its end.
//
// Durability: none. What was committed lasts until Close.
package memstore

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/umbra-iot/umbra/statestore"
)

// Store is a statestore.Store in memory.
type Store struct {
	options statestore.Options

	mu     sync.RWMutex // guards what follows
	things map[string]*thing
	live   names // things with a shadow that is not deleted
	marks  map[statestore.Key]mark
	items  map[byte]map[string]map[string][]byte // space, partition, key: value
	closed bool
}

var _ statestore.Store = (*Store)(nil)

// thing holds the shadows of one thing in order of their names.
type thing struct {
	shadows []*item
	live    int // shadows that are not deleted
}

type item struct {
	shadow  string
	record  statestore.Record
	history []statestore.Entry
}

// mark is an outbox mark: versions from first to last are to be announced.
type mark struct {
	first, last uint64
}

// New returns an empty store.
func New(o statestore.Options) *Store {
	return &Store{
		options: o.WithDefaults(),
		things:  make(map[string]*thing),
		marks:   make(map[statestore.Key]mark),
		items:   make(map[byte]map[string]map[string][]byte),
	}
}

// Load implements statestore.Store.
func (s *Store) Load(ctx context.Context, keys []statestore.Key) ([]statestore.Record, error) {
	if err := s.rlock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	records := make([]statestore.Record, len(keys))
	for i, k := range keys {
		if it := s.find(k); it != nil {
			records[i] = it.record
			records[i].Body = bytes.Clone(it.record.Body)
		}
	}
	return records, nil
}

// Commit implements statestore.Store.
func (s *Store) Commit(ctx context.Context, writes []statestore.Write) []error {
	if err := s.lock(ctx); err != nil {
		return slices.Repeat([]error{err}, len(writes))
	}
	defer s.mu.Unlock()
	var errs []error
	for i := range writes {
		if err := s.write(&writes[i]); err != nil {
			if errs == nil {
				errs = make([]error, len(writes))
			}
			errs[i] = err
		}
	}
	return errs
}

func (s *Store) write(w *statestore.Write) error {
	it := s.find(w.Key)
	var version uint64
	if it != nil {
		version = it.record.Version
	}
	if version != w.Expect {
		return statestore.ErrConflict
	}
	th := s.things[w.Key.Thing]
	if th == nil {
		th = &thing{}
		s.things[w.Key.Thing] = th
	}
	if it == nil {
		it = th.create(w.Key.Shadow)
	}
	wasLive := it.record.Version != 0 && !it.record.Deleted
	it.record = w.Record
	it.record.Body = bytes.Clone(w.Record.Body)
	it.addHistory(w.History, s.options.HistoryLimit)
	s.count(w.Key.Thing, th, wasLive, !w.Record.Deleted)
	if w.Announce != 0 {
		m := mark{first: w.Announce, last: w.Record.Version}
		if old, ok := s.marks[w.Key]; ok {
			m.first = min(m.first, old.first)
		}
		s.marks[w.Key] = m
	}
	return nil
}

// count keeps the number of live shadows of a thing and the list of things.
func (s *Store) count(name string, th *thing, was, is bool) {
	switch {
	case is && !was:
		if th.live++; th.live == 1 {
			s.live.add(name)
		}
	case was && !is:
		if th.live--; th.live == 0 {
			s.live.remove(name)
		}
	}
}

// Announced implements statestore.Store.
func (s *Store) Announced(ctx context.Context, marks []statestore.Mark) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	for _, m := range marks {
		old, ok := s.marks[m.Key]
		switch {
		case !ok:
		case m.Version > old.last:
			delete(s.marks, m.Key)
		default:
			s.marks[m.Key] = mark{first: max(old.first, m.Version), last: old.last}
		}
	}
	return nil
}

// Unannounced implements statestore.Store.
func (s *Store) Unannounced(ctx context.Context, fn func(statestore.Mark) error) error {
	if err := s.rlock(ctx); err != nil {
		return err
	}
	marks := make([]statestore.Mark, 0, len(s.marks))
	for k, m := range s.marks {
		marks = append(marks, statestore.Mark{Key: k, Version: m.first})
	}
	s.mu.RUnlock()
	for _, m := range marks {
		if err := fn(m); err != nil {
			return err
		}
	}
	return nil
}

// Things implements statestore.Store.
func (s *Store) Things(ctx context.Context, prefix, after string, limit int) ([]string, error) {
	if err := s.rlock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	var list []string
	s.live.from(max(prefix, after), func(name string) bool {
		if len(list) >= limit || !strings.HasPrefix(name, prefix) {
			return false
		}
		if name != after {
			list = append(list, name)
		}
		return true
	})
	return list, nil
}

// Shadows implements statestore.Store.
func (s *Store) Shadows(ctx context.Context, name, after string, first bool, limit int) ([]statestore.Info, error) {
	if err := s.rlock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	th := s.things[name]
	if th == nil {
		return nil, nil
	}
	var list []statestore.Info
	i, found := th.search(after)
	if found && !first {
		i++
	}
	for _, it := range th.shadows[i:] {
		if len(list) >= limit {
			break
		}
		if !it.record.Deleted {
			list = append(list, statestore.Info{Shadow: it.shadow, Version: it.record.Version, Modified: it.record.Modified})
		}
	}
	return list, nil
}

// History implements statestore.Store.
func (s *Store) History(ctx context.Context, key statestore.Key, after uint64, limit int) ([]statestore.Entry, error) {
	if err := s.rlock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	it := s.find(key)
	if it == nil {
		return nil, nil
	}
	var list []statestore.Entry
	for _, e := range it.history {
		if len(list) < limit && e.Version > after {
			e.Body = bytes.Clone(e.Body)
			list = append(list, e)
		}
	}
	return list, nil
}

// Sweep implements statestore.Store.
func (s *Store) Sweep(ctx context.Context) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	now := s.options.Now()
	oldest := now.Add(-s.options.HistoryAge).UnixMilli()
	for name, th := range s.things {
		th.shadows = slices.DeleteFunc(th.shadows, func(it *item) bool { return it.record.ExpiredAt(now) })
		if len(th.shadows) == 0 {
			delete(s.things, name)
		}
		for _, it := range th.shadows {
			it.history = slices.DeleteFunc(it.history, func(e statestore.Entry) bool { return e.Time < oldest })
		}
	}
	return nil
}

// Shared implements statestore.Store: nobody else sees this process's memory.
func (s *Store) Shared() bool { return false }

// Ping implements statestore.Store.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.rlock(ctx); err != nil {
		return err
	}
	s.mu.RUnlock()
	return nil
}

// Close implements statestore.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.things, s.marks, s.items, s.live = true, nil, nil, nil, names{}
	return nil
}

// lock locks s unless it is closed or ctx has ended.
func (s *Store) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memstore: %w", err)
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return statestore.ErrClosed
	}
	return nil
}

// rlock is lock for reading.
func (s *Store) rlock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memstore: %w", err)
	}
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return statestore.ErrClosed
	}
	return nil
}

// find returns the shadow of key, or nil when there is none or it has expired.
func (s *Store) find(key statestore.Key) *item {
	th := s.things[key.Thing]
	if th == nil {
		return nil
	}
	i, ok := th.search(key.Shadow)
	if !ok || th.shadows[i].record.ExpiredAt(s.options.Now()) {
		return nil
	}
	return th.shadows[i]
}

// search returns where the shadow is or belongs.
func (t *thing) search(shadow string) (int, bool) {
	return slices.BinarySearchFunc(t.shadows, shadow, func(it *item, name string) int { return strings.Compare(it.shadow, name) })
}

// create returns a new item in place of an expired one, if any.
func (t *thing) create(shadow string) *item {
	it := &item{shadow: shadow}
	if i, found := t.search(shadow); found {
		t.shadows[i] = it
	} else {
		t.shadows = slices.Insert(t.shadows, i, it)
	}
	return it
}

// addHistory appends entries and drops those that are limit or more versions
// behind the record.
func (it *item) addHistory(entries []statestore.Entry, limit int) {
	for _, e := range entries {
		e.Body = bytes.Clone(e.Body)
		it.history = append(it.history, e)
	}
	old := 0
	for old < len(it.history) && it.history[old].Version+uint64(limit) <= it.record.Version {
		old++
	}
	it.history = slices.Delete(it.history, 0, old)
}
