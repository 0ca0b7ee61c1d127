package memstore

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"github.com/umbra-iot/umbra/statestore"
)

// Put implements statestore.Items.
func (s *Store) Put(ctx context.Context, items []statestore.Item) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	for i := range items {
		s.putItem(&items[i])
	}
	return nil
}

func (s *Store) putItem(it *statestore.Item) {
	space := s.items[it.Space]
	switch {
	case it.Value != nil:
		if space == nil {
			space = make(map[string]map[string][]byte)
			s.items[it.Space] = space
		}
		if space[it.Partition] == nil {
			space[it.Partition] = make(map[string][]byte)
		}
		space[it.Partition][string(it.Key)] = bytes.Clone(it.Value)
	case it.Key == nil:
		delete(space, it.Partition)
	default:
		delete(space[it.Partition], string(it.Key))
		if len(space[it.Partition]) == 0 {
			delete(space, it.Partition)
		}
	}
}

// Get implements statestore.Items.
func (s *Store) Get(ctx context.Context, space byte, partition string, keys [][]byte) ([][]byte, error) {
	if err := s.rlock(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	values := make([][]byte, len(keys))
	for i, key := range keys {
		values[i] = bytes.Clone(s.items[space][partition][string(key)])
	}
	return values, nil
}

// Scan implements statestore.Items.
func (s *Store) Scan(ctx context.Context, space byte, fn func(statestore.Item) error) error {
	if err := s.rlock(ctx); err != nil {
		return err
	}
	defer s.mu.RUnlock()
	for _, name := range slices.Sorted(maps.Keys(s.items[space])) {
		partition := s.items[space][name]
		for _, key := range slices.Sorted(maps.Keys(partition)) {
			err := fn(statestore.Item{Space: space, Partition: name, Key: []byte(key), Value: bytes.Clone(partition[key])})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
