package redisstore

import (
	"context"
	"slices"

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
	newest := make([]*redis.XMessageSliceCmd, len(names))
	err := s.read(ctx, "list shadows", func(p redis.Pipeliner) {
		for i, name := range names {
			newest[i] = p.XRevRangeN(ctx, s.keys.shadow(statestore.Key{Thing: thing, Shadow: name}), "+", "-", 1)
		}
	})
	if err != nil {
		return nil, err
	}
	now := s.options.Now()
	for i, name := range names {
		r, err := parseHeader(headerOf(newest[i].Val()), now)
		if err != nil {
			return nil, damaged("record", statestore.Key{Thing: thing, Shadow: name}, err)
		}
		if r.Version != 0 && !r.Deleted {
			list = append(list, statestore.Info{Shadow: name, Version: r.Version, Modified: r.Modified})
		}
	}
	return list, nil
}

// History implements statestore.Store.
func (s *Store) History(ctx context.Context, key statestore.Key, after uint64, limit int) ([]statestore.Entry, error) {
	var reply *redis.XMessageSliceCmd
	err := s.read(ctx, "history", func(p redis.Pipeliner) {
		reply = p.XRevRange(ctx, s.keys.shadow(key), "+", "-")
	})
	if err != nil {
		return nil, err
	}
	r, err := parseHeader(headerOf(reply.Val()), s.options.Now())
	if err != nil {
		return nil, damaged("record", key, err)
	}
	if r.Version == 0 {
		return nil, nil
	}
	list, err := parseEntries(reply.Val())
	if err != nil {
		return nil, damaged("history", key, err)
	}
	oldest := max(after, r.Version-min(uint64(s.options.HistoryLimit), r.Version))
	list = slices.DeleteFunc(list, func(e statestore.Entry) bool { return e.Version <= oldest })
	return list[:min(limit, len(list))], nil
}
