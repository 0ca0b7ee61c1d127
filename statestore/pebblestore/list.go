package pebblestore

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"github.com/umbra-iot/umbra/statestore"
)

// Things implements statestore.Store.
func (s *Store) Things(ctx context.Context, prefix, after string, limit int) ([]string, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	start := append([]byte{kindRecord}, prefix...)
	if after >= prefix && after != "" {
		start = afterThing(start[:0], after)
	}
	it, err := s.iterate(ctx, start, []byte{kindRecord + 1})
	if err != nil {
		return nil, err
	}
	var list []string
	for ok := it.First(); ok && len(list) < limit; {
		name := cutName(it.Key()[1:]).Thing
		if !strings.HasPrefix(name, prefix) {
			break
		}
		r, err := parseRecord(it.Value())
		if err != nil {
			return nil, fmt.Errorf("pebblestore: record of %q: %w", name, closeWith(it, err))
		}
		if r.Deleted {
			ok = it.Next()
			continue
		}
		list = append(list, name)
		start = afterThing(start[:0], name)
		ok = it.SeekGE(start)
	}
	return list, iterated(it)
}

// afterThing appends a key behind all records of a thing and before those of the next.
func afterThing(dst []byte, name string) []byte {
	dst = append(dst, kindRecord)
	dst = append(dst, name...)
	return append(dst, 1)
}

// Shadows implements statestore.Store.
func (s *Store) Shadows(ctx context.Context, thing, after string, first bool, limit int) ([]statestore.Info, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	start := appendName(nil, kindRecord, statestore.Key{Thing: thing, Shadow: after})
	if !first {
		start = append(start, 0)
	}
	it, err := s.iterate(ctx, start, afterThing(nil, thing))
	if err != nil {
		return nil, err
	}
	var list []statestore.Info
	for it.First(); it.Valid() && len(list) < limit; it.Next() {
		r, err := parseRecord(it.Value())
		if err != nil {
			return nil, fmt.Errorf("pebblestore: record of %q: %w", thing, closeWith(it, err))
		}
		if !r.Deleted {
			name := cutName(it.Key()[1:]).Shadow
			list = append(list, statestore.Info{Shadow: name, Version: r.Version, Modified: r.Modified})
		}
	}
	return list, iterated(it)
}

// History implements statestore.Store.
func (s *Store) History(ctx context.Context, key statestore.Key, after uint64, limit int) ([]statestore.Entry, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	var version uint64
	if err := s.view(key, func(r statestore.Record) { version = r.Version }); err != nil || version <= after {
		return nil, err
	}
	oldest := max(after+1, oldestKept(version, s.options.HistoryLimit))
	from, to := historyBounds(key)
	it, err := s.iterate(ctx, from, to)
	if err != nil {
		return nil, err
	}
	var list []statestore.Entry
	for it.First(); it.Valid(); it.Next() {
		e, err := parseEntry(it.Value())
		if err != nil {
			return nil, fmt.Errorf("pebblestore: history of %q %q: %w", key.Thing, key.Shadow, closeWith(it, err))
		}
		if e.Version >= oldest {
			e.Body = bytes.Clone(e.Body)
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b statestore.Entry) int { return cmp.Compare(a.Version, b.Version) })
	return list[:min(limit, len(list))], iterated(it)
}

// iterate visits the keys from start to before end.
func (s *Store) iterate(ctx context.Context, start, end []byte) (*pebble.Iterator, error) {
	it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: start, UpperBound: end})
	if err != nil {
		return nil, fmt.Errorf("pebblestore: iterate: %w", err)
	}
	return it, nil
}

// iterated closes an iterator that was read to the end of a page.
func iterated(it *pebble.Iterator) error {
	if err := it.Close(); err != nil {
		return fmt.Errorf("pebblestore: iterate: %w", err)
	}
	return nil
}
