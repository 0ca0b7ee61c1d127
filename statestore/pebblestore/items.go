package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/umbra-iot/umbra/statestore"
)

// Put implements statestore.Items. It shares the sync with commits of shadows.
func (s *Store) Put(ctx context.Context, items []statestore.Item) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	if err := s.take(ctx); err != nil {
		return err
	}
	b := s.db.NewBatch()
	for i := range items {
		addItem(b, &items[i])
	}
	return s.write(ctx, b)
}

// addItem adds an item to b, whose methods fail only for invalid use.
func addItem(b *pebble.Batch, it *statestore.Item) {
	var buf [256]byte
	key := appendPartition(buf[:0], it.Space, it.Partition)
	switch {
	case it.Value != nil:
		_ = b.Set(append(key, it.Key...), it.Value, nil)
	case it.Key != nil:
		_ = b.Delete(append(key, it.Key...), nil)
	default:
		end := append([]byte(nil), key...)
		end[len(end)-1] = 1
		_ = b.DeleteRange(key, end, nil)
	}
}

// appendPartition appends what the keys of a partition's items begin with.
func appendPartition(dst []byte, space byte, partition string) []byte {
	return append(append(append(dst, kindItem, space), partition...), 0)
}

// Get implements statestore.Items.
func (s *Store) Get(ctx context.Context, space byte, partition string, keys [][]byte) ([][]byte, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	prefix := appendPartition(nil, space, partition)
	values := make([][]byte, len(keys))
	for i, key := range keys {
		value, closer, err := s.db.Get(append(slices.Clip(prefix), key...))
		switch {
		case errors.Is(err, pebble.ErrNotFound):
			continue
		case err != nil:
			return nil, fmt.Errorf("pebblestore: get: %w", err)
		}
		values[i] = append([]byte{}, value...)
		if err := closer.Close(); err != nil {
			return nil, fmt.Errorf("pebblestore: get: %w", err)
		}
	}
	return values, nil
}

// Scan implements statestore.Items.
func (s *Store) Scan(ctx context.Context, space byte, fn func(statestore.Item) error) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	from, to := []byte{kindItem, space}, []byte{kindItem, space + 1}
	if space == 0xff {
		to = []byte{kindItem + 1}
	}
	it, err := s.iterate(ctx, from, to)
	if err != nil {
		return err
	}
	item := statestore.Item{Space: space}
	for it.First(); it.Valid(); it.Next() {
		partition, key, _ := bytes.Cut(it.Key()[2:], []byte{0})
		if item.Partition != string(partition) {
			item.Partition = string(partition)
		}
		item.Key, item.Value = key, it.Value()
		if err := fn(item); err != nil {
			return closeWith(it, err)
		}
	}
	return iterated(it)
}
