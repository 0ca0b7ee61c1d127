package redisstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/umbra-iot/umbra/statestore"
)

// Things implements statestore.Store: it merges the lists of all buckets.
func (s *Store) Things(ctx context.Context, prefix, after string, limit int) ([]string, error) {
	if limit <= 0 {
		return nil, s.begin(ctx)
	}
	span := &redis.ZRangeBy{Min: "[" + prefix, Max: "+", Count: int64(limit)}
	if after >= prefix && after != "" {
		span.Min = "(" + after
	}
	if end := prefixEnd(prefix); end != "" {
		span.Max = "(" + end
	}
	replies := make([]*redis.StringSliceCmd, buckets)
	err := s.read(ctx, "list things", func(p redis.Pipeliner) {
		for b := range replies {
			replies[b] = p.ZRangeByLex(ctx, s.keys.things(b), span)
		}
	})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, reply := range replies {
		names = append(names, reply.Val()...)
	}
	slices.Sort(names)
	return names[:min(limit, len(names))], nil
}

// prefixEnd returns the first string behind all that begin with prefix, or ""
// when there is none.
func prefixEnd(prefix string) string {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			return prefix[:i] + string([]byte{prefix[i] + 1})
		}
	}
	return ""
}

// Shadows implements statestore.Store.
func (s *Store) Shadows(ctx context.Context, thing, after string, first bool, limit int) ([]statestore.Info, error) {
	if limit <= 0 {
		return nil, s.begin(ctx)
	}
	var list []statestore.Info
	span := &redis.ZRangeBy{Min: "(" + after, Max: "+"}
	if first {
		span.Min = "[" + after
	}
	for len(list) < limit {
		span.Count = int64(limit - len(list))
		var names *redis.StringSliceCmd
		err := s.read(ctx, "list shadows", func(p redis.Pipeliner) {
			names = p.ZRangeByLex(ctx, s.keys.shadows(thing), span)
		})
		if err != nil {
			return nil, err
		}
		if list, err = s.appendInfos(ctx, list, thing, names.Val()); err != nil {
			return nil, err
		}
		if len(names.Val()) < int(span.Count) {
			break
		}
		span.Min = "(" + names.Val()[span.Count-1]
	}
	return list, nil
}

// appendInfos describes the shadows that are still there.
func (s *Store) appendInfos(ctx context.Context, list []statestore.Info, thing string, names []string) ([]statestore.Info, error) {
	if len(names) == 0 {
		return list, nil
	}
	headers := make([]*redis.StringCmd, len(names))
	err := s.read(ctx, "list shadows", func(p redis.Pipeliner) {
		for i, name := range names {
			headers[i] = p.HGet(ctx, s.keys.shadow(statestore.Key{Thing: thing, Shadow: name}), headerField)
		}
	})
	if err != nil {
		return nil, err
	}
	now := s.options.Now()
	for i, name := range names {
		r, err := parseHeader(headers[i].Val(), now)
		if err != nil {
			return nil, fmt.Errorf("redisstore: record of %q %q: %w", thing, name, err)
		}
		if r.Version != 0 && !r.Deleted {
			list = append(list, statestore.Info{Shadow: name, Version: r.Version, Modified: r.Modified})
		}
	}
	return list, nil
}

// History implements statestore.Store.
func (s *Store) History(ctx context.Context, key statestore.Key, after uint64, limit int) ([]statestore.Entry, error) {
	var reply *redis.MapStringStringCmd
	err := s.read(ctx, "history", func(p redis.Pipeliner) {
		reply = p.HGetAll(ctx, s.keys.shadow(key))
	})
	if err != nil {
		return nil, err
	}
	fields := reply.Val()
	r, err := parseHeader(fields[headerField], s.options.Now())
	if err != nil {
		return nil, fmt.Errorf("redisstore: record of %q %q: %w", key.Thing, key.Shadow, err)
	}
	kept := max(after, r.Version-min(uint64(s.options.HistoryLimit), r.Version)) + 1
	var list []statestore.Entry
	for v := kept; v <= r.Version && len(list) < limit; v++ {
		value, ok := fields[strconv.FormatUint(v, 10)]
		if !ok {
			continue
		}
		e, err := parseEntry(v, value)
		if err != nil {
			return nil, fmt.Errorf("redisstore: history of %q %q: %w", key.Thing, key.Shadow, err)
		}
		list = append(list, e)
	}
	return list, nil
}
