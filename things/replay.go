package things

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/statestore"
)

// maxReplay bounds the versions of one shadow that are announced again at once. It is
// far above what one batch commits.
const maxReplay = 10_000

// Start announces what was committed but perhaps not announced before a crash.
// Call it before the first connection is accepted.
func (s *Service) Start(ctx context.Context) error {
	var marks []statestore.Mark
	err := s.store.Unannounced(ctx, func(m statestore.Mark) error {
		marks = append(marks, m)
		return nil
	})
	if err != nil {
		return fmt.Errorf("things: read the outbox: %w", err)
	}
	for i, m := range marks {
		id := shadow.ID{Thing: m.Key.Thing, Name: m.Key.Shadow}
		last, err := s.replay(ctx, id, m.Version)
		if err != nil {
			return fmt.Errorf("things: replay the outbox of %s: %w", id, err)
		}
		marks[i].Version = max(last+1, m.Version)
	}
	if len(marks) == 0 {
		return nil
	}
	s.log.Info("announced what the last run had not", "shadows", len(marks))
	if err := s.pub.Flush(ctx); err != nil {
		return fmt.Errorf("things: announce the outbox: %w", err)
	}
	if err := s.store.Announced(ctx, marks); err != nil {
		return fmt.Errorf("things: clear the outbox: %w", err)
	}
	return nil
}

// replay announces the versions of a shadow from the given one on, and returns the last.
func (s *Service) replay(ctx context.Context, id shadow.ID, from uint64) (last uint64, err error) {
	key := statestore.Key{Thing: id.Thing, Shadow: id.Name}
	records, err := s.store.Load(ctx, []statestore.Key{key})
	if err != nil {
		return 0, err
	}
	r := records[0]
	if r.Version < from {
		return r.Version, nil
	}
	doc, err := shadow.DecodeRecord(r.Version, r.Deleted, r.Body)
	if err != nil {
		return 0, err
	}
	changes, err := s.rebuild(ctx, key, doc, from)
	if err != nil {
		return 0, err
	}
	topics := shadow.TopicsOf(id)
	if len(changes) == 0 { // no history is kept: the delta is what must not be lost
		if m := currentDelta(id, topics, doc, s.now()); m != nil {
			m.Replayed = true
			s.pub.Publish(m)
		}
		return r.Version, nil
	}
	for _, p := range slices.Backward(changes) {
		s.announce(id, topics, p)
	}
	return r.Version, nil
}

// past is a change rebuilt from history.
type past struct {
	op     shadow.Op
	time   int64
	change *shadow.Change
}

// rebuild makes the changes of a document from history, newest first, as far back as version from or as history goes.
func (s *Service) rebuild(ctx context.Context, key statestore.Key, doc *shadow.Document, from uint64) ([]past, error) {
	entries, err := s.store.History(ctx, key, from-1, maxReplay)
	if err != nil {
		return nil, err
	}
	var changes []past
	for _, e := range slices.Backward(entries) {
		if e.Version != doc.Version() {
			continue // newer than the record that was read: another process is at work and announces it
		}
		entry, err := shadow.DecodeHistory(e.Version, e.Body)
		if err != nil {
			return nil, err
		}
		change, err := entry.Change(doc)
		if err != nil {
			return nil, err
		}
		changes = append(changes, past{entry.Op, entry.Time, change})
		doc = change.Before
	}
	return changes, nil
}

func (s *Service) announce(id shadow.ID, topics shadow.Topics, p past) {
	c := &call{req: Request{ID: id, Op: p.op}, change: p.change}
	version := p.change.After.Version()
	if p.op == shadow.OpDelete {
		version = p.change.Before.Version()
	}
	c.accept(&job{lane: &lane{id: id, topics: topics}}, version, p.time)
	c.answer.Replayed, c.delta.Replayed, c.documents.Replayed = true, true, true
	s.publish(c)
}

// recoverLater makes the lane read its document again after a while, growing
// with each attempt, so that a version whose commit had an unknown outcome is
// announced even when nobody asks for the shadow.
func (s *Service) recoverLater(l *lane) {
	const first, most = 100 * time.Millisecond, 30 * time.Second
	if l.timer {
		return
	}
	l.timer = true
	wait := most
	if l.retries < 9 {
		wait = min(first<<l.retries, most)
	}
	l.retries++
	id := l.id
	time.AfterFunc(wait, func() { s.enqueue(id, &call{kind: kindRecover}) })
}

// settleDoubt announces what a commit with an unknown outcome turned out to
// have stored. It reports false when that cannot be found out now.
func (w *worker) settleDoubt(l *lane) bool {
	if l.doubt == 0 {
		return true
	}
	ctx := w.s.storeContext()
	last, err := w.s.replay(ctx, l.id, l.doubt)
	if err != nil {
		w.s.log.Error("cannot settle an unknown commit", "err", err, "thing", l.id.Thing, "shadow", l.id.Name)
		return false
	}
	if last >= l.doubt {
		w.marks = append(w.marks, statestore.Mark{Key: l.key(), Version: last + 1})
	}
	l.doubt, l.retries = 0, 0
	return true
}
