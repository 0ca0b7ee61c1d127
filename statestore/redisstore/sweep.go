package redisstore

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/umbra-iot/umbra/statestore"
)

const (
	sweepPage = 256 // things that are looked at together
	// sweepHistory is the fraction of the history's greatest age at which old history is looked
	// for: that visits every shadow.
	sweepHistory = 7
)

// Sweep implements statestore.Store. Redis itself removes tombstones that have expired. The history
// of shadows that did not change for so long that all of it is old is looked for once in a seventh
// of its greatest age.
func (s *Store) Sweep(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	s.sweepMu.Lock()
	defer s.sweepMu.Unlock()
	now := s.options.Now()
	if now.Sub(s.swept) < s.options.HistoryAge/sweepHistory {
		return nil
	}
	oldest := now.Add(-s.options.HistoryAge).UnixMilli()
	for after := ""; ; {
		things, err := s.Things(ctx, "", after, sweepPage)
		if err != nil {
			return err
		}
		if err := s.sweepThings(ctx, things, oldest); err != nil {
			return err
		}
		if len(things) < sweepPage {
			break
		}
		after = things[len(things)-1]
	}
	s.swept = now
	return nil
}

// sweepThings removes the history of those shadows of things that have not changed since oldest.
func (s *Store) sweepThings(ctx context.Context, things []string, oldest int64) error {
	if len(things) == 0 {
		return nil
	}
	names := make([]*redis.StringSliceCmd, len(things))
	err := s.read(ctx, "sweep", func(p redis.Pipeliner) {
		for i, thing := range things {
			names[i] = p.ZRange(ctx, s.keys.shadows(thing), 0, -1)
		}
	})
	if err != nil {
		return err
	}
	for i, thing := range things {
		for page := range slices.Chunk(names[i].Val(), sweepPage) {
			if err := s.sweepShadows(ctx, thing, page, oldest); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) sweepShadows(ctx context.Context, thing string, names []string, oldest int64) error {
	infos, err := s.appendInfos(ctx, nil, thing, names)
	if err != nil {
		return err
	}
	infos = slices.DeleteFunc(infos, func(i statestore.Info) bool { return i.Modified > oldest })
	if len(infos) == 0 {
		return nil
	}
	newest := make([]*redis.XMessageSliceCmd, len(infos))
	err = s.read(ctx, "sweep", func(p redis.Pipeliner) {
		for i, info := range infos {
			newest[i] = p.XRevRangeN(ctx, s.keys.shadow(statestore.Key{Thing: thing, Shadow: info.Shadow}), "+", "-", bodyEvery)
		}
	})
	if err != nil {
		return err
	}
	return s.read(ctx, "sweep", func(p redis.Pipeliner) {
		for i, info := range infos {
			if body := bodyOf(newest[i].Val()); body >= 0 { // what is older than it is only history
				p.XTrimMinID(ctx, s.keys.shadow(statestore.Key{Thing: thing, Shadow: info.Shadow}), newest[i].Val()[body].ID)
			}
		}
	})
}
