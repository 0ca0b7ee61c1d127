package pebblestore

import (
	"bytes"
	"context"

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
	key := append(buf[:0], kindItem, it.Space)
	key = append(key, it.Partition...)
	key = append(key, 0)
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
