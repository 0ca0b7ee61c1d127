package redisstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/umbra-iot/umbra/statestore"
)

// Sizes of the steps of a Scan.
const (
	scanNames      = 1000 // names of partitions in one reply, about
	scanPartitions = 16   // partitions in one round trip
)

// errOvertaken is the failure of a Put that comes after a later one.
var errOvertaken = errors.New("another process writes under the name of this node")

// Put implements statestore.Items: one script call. Each has a number, so that one that was given up and
// arrives late is recognised.
func (s *Store) Put(ctx context.Context, items []statestore.Item) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	if len(items) == 0 {
		return nil
	}
	args := s.putArgs(items)
	err := s.retry(ctx, func() error {
		done, err := s.sendPut(ctx, args)
		if err == nil && !done {
			return errOvertaken
		}
		return err
	})
	if err != nil {
		return s.failure("put", err)
	}
	return nil
}

func (s *Store) putArgs(items []statestore.Item) []any {
	args := make([]any, 0, 2+5*len(items))
	args = append(args, appendPadded(nil, s.puts.Add(1), versionLen, 10), s.keys.items())
	for i := range items {
		it := &items[i]
		op := "a"
		switch {
		case it.Value != nil:
			op = "s"
		case it.Key != nil:
			op = "d"
		}
		args = append(args, op, it.Space, it.Partition, it.Key, it.Value)
	}
	return args
}

// sendPut can be repeated without harm.
func (s *Store) sendPut(ctx context.Context, args []any) (done bool, err error) {
	key := []string{s.keys.puts()}
	n, err := s.client.EvalSha(ctx, s.put.sha, key, args...).Int()
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		n, err = s.client.Eval(ctx, s.put.source, key, args...).Int()
	}
	return n == 1, err
}

// loadPuts finds out how far the last run has counted its Puts.
func (s *Store) loadPuts(ctx context.Context) error {
	text, err := s.client.Get(ctx, s.keys.puts()).Result()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return fmt.Errorf("number of the last put: %w", errDamaged)
	}
	s.puts.Store(n)
	return nil
}

// Get implements statestore.Items.
func (s *Store) Get(ctx context.Context, space byte, partition string, keys [][]byte) ([][]byte, error) {
	values := make([][]byte, len(keys))
	if len(keys) == 0 {
		return values, s.begin(ctx)
	}
	fields := make([]string, len(keys))
	for i, key := range keys {
		fields[i] = string(key)
	}
	var reply *redis.SliceCmd
	err := s.read(ctx, "get", func(p redis.Pipeliner) {
		reply = p.HMGet(ctx, s.keys.partition(space, partition), fields...)
	})
	if err != nil {
		return nil, err
	}
	for i, value := range reply.Val() {
		if text, ok := value.(string); ok {
			values[i] = []byte(text)
		}
	}
	return values, nil
}

// Scan implements statestore.Items.
func (s *Store) Scan(ctx context.Context, space byte, fn func(statestore.Item) error) error {
	names, err := s.partitions(ctx, space)
	if err != nil {
		return err
	}
	replies := make([]*redis.MapStringStringCmd, scanPartitions)
	for page := range slices.Chunk(names, scanPartitions) {
		err := s.read(ctx, "scan", func(p redis.Pipeliner) {
			for i, name := range page {
				replies[i] = p.HGetAll(ctx, s.keys.partition(space, name))
			}
		})
		if err != nil {
			return err
		}
		for i, name := range page {
			if err := each(space, name, replies[i].Val(), fn); err != nil {
				return err
			}
		}
	}
	return nil
}

// partitions returns the names of all partitions of a space, in order.
func (s *Store) partitions(ctx context.Context, space byte) ([]string, error) {
	var names []string
	for cursor, more := uint64(0), true; more; more = cursor != 0 {
		var reply *redis.ScanCmd
		err := s.read(ctx, "scan", func(p redis.Pipeliner) {
			reply = p.SScan(ctx, s.keys.partitions(space), cursor, "", scanNames)
		})
		if err != nil {
			return nil, err
		}
		var page []string
		page, cursor = reply.Val()
		names = append(names, page...)
	}
	slices.Sort(names) // a name may come twice
	return slices.Compact(names), nil
}

// each calls fn for the items of a partition.
func each(space byte, name string, values map[string]string, fn func(statestore.Item) error) error {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		err := fn(statestore.Item{Space: space, Partition: name, Key: []byte(key), Value: []byte(values[key])})
		if err != nil {
			return err
		}
	}
	return nil
}
