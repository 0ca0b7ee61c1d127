// Package storetest holds every implementation of statestore.Store to the
// contract: Run is the conformance suite, Bench measures. Faulty wraps a store
// and lets it fail at will, for the tests of the layers above, and Redis starts
// a real redis-server.
package storetest

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/umbra-iot/umbra/statestore"
)

// Open opens a new, empty store. The caller closes it; tb.Cleanup may do more.
type Open func(tb testing.TB, o statestore.Options) statestore.Store

// Run checks the store that open opens against the contract, one store for each case.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name    string
		options statestore.Options
		run     func(*suite)
	}{
		{"load what is absent", statestore.Options{}, testLoadAbsent},
		{"load what was committed", statestore.Options{}, testLoad},
		{"bodies are kept exactly", statestore.Options{}, testBodies},
		{"names are told apart", statestore.Options{}, testNames},
		{"conflict changes nothing", statestore.Options{}, testConflict},
		{"writes of a batch are independent", statestore.Options{}, testBatch},
		{"no slice is shared", statestore.Options{}, testAliasing},
		{"tombstone is loaded but not listed", statestore.Options{}, testTombstone},
		{"tombstone expires", statestore.Options{}, testExpiry},
		{"sweep removes only what has expired", statestore.Options{}, testSweep},
		{"things are listed by page", statestore.Options{}, testThings},
		{"many things", statestore.Options{}, testManyThings},
		{"shadows are listed by page", statestore.Options{}, testShadows},
		{"history by page", statestore.Options{}, testHistory},
		{"history reaches back the limit", statestore.Options{HistoryLimit: 5}, testHistoryLimit},
		{"history can be off", statestore.Options{HistoryLimit: -1}, testHistoryOff},
		{"mark lives until announced", statestore.Options{}, testMarks},
		{"mark keeps the lower version", statestore.Options{}, testMarkLower},
		{"unannounced stops at an error", statestore.Options{}, testMarkError},
		{"redoable writes", statestore.Options{Redo: redo}, testRedoable},
		{"redoable writes with little history", statestore.Options{Redo: redo, HistoryLimit: 3}, testRedoable},
		{"redoable writes without history", statestore.Options{Redo: redo, HistoryLimit: -1}, testRedoable},
		{"redoable writes that cannot be redone", statestore.Options{}, testRedoable},
		{"concurrent writers lose nothing", statestore.Options{}, testConcurrent},
		{"items in order", statestore.Options{}, testItems},
		{"items by key", statestore.Options{}, testGet},
		{"items are deleted", statestore.Options{}, testItemsDeleted},
		{"put is repeated", statestore.Options{}, testItemsRepeated},
		{"items are told apart", statestore.Options{}, testItemNames},
		{"many items", statestore.Options{}, testManyItems},
		{"scan stops at an error", statestore.Options{}, testScanError},
		{"ended context", statestore.Options{}, testContext},
		{"closed", statestore.Options{}, testClose},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &suite{T: t, clock: &clock{}}
			s.clock.now.Store(time.Now().UnixMilli())
			c.options.Now = s.clock.Now
			s.Store = open(t, c.options)
			defer s.Close()
			c.run(s)
		})
	}
}

// suite is one case under way: the test and the store.
type suite struct {
	*testing.T
	statestore.Store
	clock *clock
}

// clock is the time of a case; it stands still unless moved.
type clock struct {
	now atomic.Int64 // ms since the epoch
}

func (c *clock) Now() time.Time { return time.UnixMilli(c.now.Load()) }

func (c *clock) advance(d time.Duration) { c.now.Add(d.Milliseconds()) }

// put is a write of version expect+1 with a history entry and without a mark.
func (s *suite) put(key statestore.Key, expect uint64, body string) statestore.Write {
	now := s.clock.now.Load()
	return statestore.Write{
		Key:     key,
		Expect:  expect,
		Record:  statestore.Record{Version: expect + 1, Modified: now, Body: []byte(body)},
		History: []statestore.Entry{{Version: expect + 1, Time: now, Body: []byte("change " + body)}},
	}
}

// bury is a write of a tombstone that expires after d.
func (s *suite) bury(key statestore.Key, expect uint64, d time.Duration) statestore.Write {
	w := s.put(key, expect, "")
	w.Record.Deleted, w.Record.Expires = true, s.clock.now.Load()+d.Milliseconds()
	return w
}

// mustCommit commits writes that have to be done.
func (s *suite) mustCommit(writes ...statestore.Write) {
	s.Helper()
	if errs := s.Commit(s.Context(), writes); errs != nil {
		s.Fatalf("Commit(%d writes) = %v, want nil", len(writes), errs)
	}
}

// wantCommit commits and compares the error of each write.
func (s *suite) wantCommit(writes []statestore.Write, want ...error) {
	s.Helper()
	got := s.Commit(s.Context(), writes)
	if len(got) != len(want) {
		s.Fatalf("Commit(%d writes) = %v, want %v", len(writes), got, want)
	}
	for i := range want {
		if !errors.Is(got[i], want[i]) {
			s.Errorf("Commit(...)[%d] = %v, want %v", i, got[i], want[i])
		}
	}
}

func (s *suite) wantLoad(keys []statestore.Key, want ...statestore.Record) {
	s.Helper()
	got, err := s.Load(s.Context(), keys)
	if err != nil {
		s.Fatalf("Load(%v) = %v", keys, err)
	}
	s.wantEqual("Load", got, want)
}

func (s *suite) wantVersion(key statestore.Key, want uint64) {
	s.Helper()
	got, err := s.Load(s.Context(), []statestore.Key{key})
	if err != nil || len(got) != 1 || got[0].Version != want {
		s.Errorf("Load(%v) = %v, %v, want version %d", key, got, err, want)
	}
}

func (s *suite) wantThings(prefix, after string, limit int, want ...string) {
	s.Helper()
	got, err := s.Things(s.Context(), prefix, after, limit)
	if err != nil {
		s.Fatalf("Things(%q, %q, %d) = %v", prefix, after, limit, err)
	}
	if !slices.Equal(got, want) {
		s.Errorf("Things(%q, %q, %d) = %q, want %q", prefix, after, limit, got, want)
	}
}

func (s *suite) wantShadows(thing, after string, first bool, limit int, want ...string) {
	s.Helper()
	infos, err := s.Shadows(s.Context(), thing, after, first, limit)
	if err != nil {
		s.Fatalf("Shadows(%q, %q, %t, %d) = %v", thing, after, first, limit, err)
	}
	var got []string
	for _, i := range infos {
		got = append(got, i.Shadow)
	}
	if !slices.Equal(got, want) {
		s.Errorf("Shadows(%q, %q, %t, %d) = %q, want %q", thing, after, first, limit, got, want)
	}
}

// wantHistory compares the versions of a page of history.
func (s *suite) wantHistory(key statestore.Key, after uint64, limit int, want ...uint64) {
	s.Helper()
	entries, err := s.History(s.Context(), key, after, limit)
	if err != nil {
		s.Fatalf("History(%v, %d, %d) = %v", key, after, limit, err)
	}
	var got []uint64
	for _, e := range entries {
		got = append(got, e.Version)
	}
	if !slices.Equal(got, want) {
		s.Errorf("History(%v, %d, %d) = %d, want %d", key, after, limit, got, want)
	}
}

// wantMarks compares all outbox marks, in any order.
func (s *suite) wantMarks(want ...statestore.Mark) {
	s.Helper()
	var got []statestore.Mark
	err := s.Unannounced(s.Context(), func(m statestore.Mark) error {
		got = append(got, m)
		return nil
	})
	if err != nil {
		s.Fatalf("Unannounced() = %v", err)
	}
	byKey := cmpopts.SortSlices(func(a, b statestore.Mark) bool {
		return a.Key.Thing+" "+a.Key.Shadow < b.Key.Thing+" "+b.Key.Shadow
	})
	s.wantEqual("Unannounced", got, want, byKey)
}

// announced moves marks that have to be moved.
func (s *suite) announced(marks ...statestore.Mark) {
	s.Helper()
	if err := s.Announced(s.Context(), marks); err != nil {
		s.Fatalf("Announced(%v) = %v", marks, err)
	}
}

func (s *suite) wantEqual(what string, got, want any, o ...cmp.Option) {
	s.Helper()
	// As strings, long bodies are compared and shown quickly.
	bodies := cmp.FilterValues(func(a, b []byte) bool { return len(a)+len(b) > 0 },
		cmp.Transformer("string", func(b []byte) string { return string(b) }))
	if diff := cmp.Diff(want, got, append(o, bodies, cmpopts.EquateEmpty())...); diff != "" {
		s.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
