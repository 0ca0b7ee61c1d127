package things

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/statestore"
)

// ShadowInfo describes a shadow in a list.
type ShadowInfo struct {
	Name     string // "" is the classic shadow
	Version  uint64
	Modified int64 // ms since the epoch
	InSync   bool  // desired and reported agree
}

// reserved begins what is stored in the place of things but is none, such as
// configuration. No thing has such a name, and all of these come before those of things.
const reserved = "$"

// Things returns up to limit names of things with at least one shadow, in byte
// order, that begin with prefix and come after the name after.
func (s *Service) Things(ctx context.Context, prefix, after string, limit int) ([]string, error) {
	if strings.HasPrefix(prefix, reserved) {
		return nil, nil
	}
	names, err := s.store.Things(ctx, prefix, max(after, reserved+"\xFF"), limit)
	if err != nil {
		return nil, fmt.Errorf("things: list things: %w", err)
	}
	return names, nil
}

// Shadows returns up to limit shadows of a thing in the order of their names,
// the classic one first, that come after the name after; first is true for the start.
func (s *Service) Shadows(ctx context.Context, thing, after string, first bool, limit int) ([]ShadowInfo, error) {
	infos, err := s.store.Shadows(ctx, thing, after, first, limit)
	if err != nil {
		return nil, fmt.Errorf("things: list shadows: %w", err)
	}
	keys := make([]statestore.Key, len(infos))
	for i, in := range infos {
		keys[i] = statestore.Key{Thing: thing, Shadow: in.Shadow}
	}
	records, err := s.store.Load(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("things: list shadows: %w", err)
	}
	out := make([]ShadowInfo, 0, len(infos))
	for i, r := range records {
		if r.Version == 0 || r.Deleted {
			continue // deleted since it was listed
		}
		doc, err := shadow.DecodeRecord(r.Version, r.Deleted, r.Body)
		if err != nil {
			return nil, fmt.Errorf("things: shadow %s: %w", shadow.ID{Thing: thing, Name: infos[i].Shadow}, err)
		}
		out = append(out, ShadowInfo{Name: infos[i].Shadow, Version: r.Version, Modified: r.Modified, InSync: !doc.HasDelta()})
	}
	return out, nil
}

// Names returns up to limit names of the named shadows of a thing, in byte order, after the name after.
func (s *Service) Names(ctx context.Context, thing, after string, limit int) ([]string, error) {
	infos, err := s.store.Shadows(ctx, thing, after, false, limit)
	if err != nil {
		return nil, fmt.Errorf("things: list shadows: %w", err)
	}
	names := make([]string, len(infos))
	for i, in := range infos {
		names[i] = in.Shadow
	}
	return names, nil
}

// Done reports whether the history of a shadow has a change by the request with this number
// ([shadow.Author]).
func (s *Service) Done(ctx context.Context, id shadow.ID, request uint64) (bool, error) {
	changes, err := s.Changes(ctx, id, 0, maxReplay)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(changes, func(c *shadow.HistoryEntry) bool { return c.Author.Request == request }), nil
}

// Changes returns up to limit history entries of a shadow with versions above after, rising.
func (s *Service) Changes(ctx context.Context, id shadow.ID, after uint64, limit int) ([]*shadow.HistoryEntry, error) {
	entries, err := s.store.History(ctx, statestore.Key{Thing: id.Thing, Shadow: id.Name}, after, limit)
	if err != nil {
		return nil, fmt.Errorf("things: history of %s: %w", id, err)
	}
	out := make([]*shadow.HistoryEntry, len(entries))
	for i, e := range entries {
		if out[i], err = shadow.DecodeHistory(e.Version, e.Body); err != nil {
			return nil, fmt.Errorf("things: history of %s: %w", id, err)
		}
	}
	return out, nil
}
