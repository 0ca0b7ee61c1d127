package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/umbra-iot/umbra/statestore"
)

// lamp is the shadow that most cases use.
var lamp = statestore.Key{Thing: "lamp"}

// errStop is what a callback of a case fails with.
var errStop = errors.New("stop")

func testLoadAbsent(s *suite) {
	s.wantLoad(nil)
	s.wantLoad([]statestore.Key{lamp, {Thing: "lamp", Shadow: "config"}}, statestore.Record{}, statestore.Record{})
	s.wantThings("", "", 10)
	s.wantShadows("lamp", "", true, 10)
	s.wantHistory(lamp, 0, 10)
	s.wantMarks()
	if err := s.Ping(s.Context()); err != nil {
		s.Errorf("Ping() = %v, want nil", err)
	}
	if err := s.Sweep(s.Context()); err != nil {
		s.Errorf("Sweep() = %v, want nil", err)
	}
	s.mustCommit()
	s.announced()
}

func testLoad(s *suite) {
	config := statestore.Key{Thing: "lamp", Shadow: "config"}
	a, b := s.put(lamp, 0, "a"), s.put(config, 0, "b")
	b.Record.Version, b.History = 7, nil
	s.mustCommit(a, b)
	s.wantLoad([]statestore.Key{config, {Thing: "other"}, lamp, config}, b.Record, statestore.Record{}, a.Record, b.Record)

	next := s.put(config, 7, "c")
	s.mustCommit(next)
	s.wantLoad([]statestore.Key{config, lamp}, next.Record, a.Record)
}

func testBodies(s *suite) {
	for i, body := range []string{"", "\x00\x01\xff\r\n", strings.Repeat("x", 1<<18), "{}"} {
		w := s.put(lamp, uint64(i), body)
		s.mustCommit(w)
		s.wantLoad([]statestore.Key{lamp}, w.Record)
		got, err := s.History(s.Context(), lamp, uint64(i), 1)
		if err != nil {
			s.Fatalf("History() = %v", err)
		}
		s.wantEqual("History", got, w.History)
	}
	w := s.put(lamp, 4, "the greatest version")
	w.Record.Version, w.History[0].Version = 1<<53-1, 1<<53-1
	s.mustCommit(w)
	s.wantLoad([]statestore.Key{lamp}, w.Record)
}

// testNames uses names that a store might mistake for one another or for syntax of its own.
func testNames(s *suite) {
	keys := []statestore.Key{
		{Thing: "a"},
		{Thing: "a", Shadow: "b"},
		{Thing: "ab"},
		{Thing: "a:b"},
		{Thing: "a", Shadow: ":b"},
		{Thing: "a:", Shadow: "b"},
		{Thing: "{a}"},
		{Thing: "}{", Shadow: "{}"},
		{Thing: "a*"},
		{Thing: "[a]", Shadow: "(a"},
		{Thing: "a\xff", Shadow: "\xff\xff"},
		{Thing: "%2f", Shadow: "$next"},
		{Thing: strings.Repeat("t", 128), Shadow: strings.Repeat("s", 64)},
	}
	var writes []statestore.Write
	var want []statestore.Record
	var marks []statestore.Mark
	things := map[string]bool{}
	for i, k := range keys {
		w := s.put(k, 0, fmt.Sprint("body ", i))
		w.Announce = 1
		writes = append(writes, w)
		want = append(want, w.Record)
		marks = append(marks, statestore.Mark{Key: k, Version: 1})
		things[k.Thing] = true
	}
	s.mustCommit(writes...)
	s.wantLoad(keys, want...)
	s.wantMarks(marks...)
	var names []string
	for name := range things {
		names = append(names, name)
	}
	slices.Sort(names)
	s.wantThings("", "", 100, names...)
	s.wantThings("{", "", 100, "{a}")
	s.wantThings("a\xff", "", 100, "a\xff")
	s.wantShadows("a", "", true, 100, "", ":b", "b")
}

func testConflict(s *suite) {
	first := s.put(lamp, 0, "first")
	first.Announce = 1
	s.mustCommit(first)
	for _, expect := range []uint64{0, 2, 1 << 40} {
		w := s.put(lamp, expect, "lost")
		w.Announce = expect + 1
		s.wantCommit([]statestore.Write{w}, statestore.ErrConflict)
	}
	s.wantCommit([]statestore.Write{s.put(statestore.Key{Thing: "other"}, 1, "lost")}, statestore.ErrConflict)
	s.wantLoad([]statestore.Key{lamp, {Thing: "other"}}, first.Record, statestore.Record{})
	s.wantHistory(lamp, 0, 10, 1)
	s.wantMarks(statestore.Mark{Key: lamp, Version: 1})
	s.wantThings("", "", 10, "lamp")
}

func testBatch(s *suite) {
	s.mustCommit(s.put(lamp, 0, "old"))
	var writes []statestore.Write
	want := make([]error, 40)
	for i := range want {
		w := s.put(statestore.Key{Thing: fmt.Sprintf("t%02d", i)}, 0, "new")
		if i%3 == 1 {
			w.Expect, want[i] = 5, statestore.ErrConflict
		}
		writes = append(writes, w)
	}
	writes[7], want[7] = s.put(lamp, 0, "stale"), statestore.ErrConflict
	writes[8], want[8] = s.put(statestore.Key{Thing: "lamp", Shadow: "config"}, 0, "new"), nil
	s.wantCommit(writes, want...)
	for i, w := range writes {
		if want[i] == nil {
			s.wantVersion(w.Key, 1)
		} else if w.Key != lamp {
			s.wantVersion(w.Key, 0)
		}
	}
	s.wantVersion(lamp, 1)
}

func testAliasing(s *suite) {
	w := s.put(lamp, 0, "body")
	s.mustCommit(w)
	w.Record.Body[0], w.History[0].Body[0], w.History[0].Version = 'X', 'X', 99
	check := func() (statestore.Record, statestore.Entry) {
		records, err := s.Load(s.Context(), []statestore.Key{lamp})
		if err != nil || string(records[0].Body) != "body" {
			s.Fatalf("Load() = %v, %v, want body %q", records, err, "body")
		}
		entries, err := s.History(s.Context(), lamp, 0, 10)
		if err != nil || len(entries) != 1 || string(entries[0].Body) != "change body" || entries[0].Version != 1 {
			s.Fatalf("History() = %v, %v, want version 1 %q", entries, err, "change body")
		}
		return records[0], entries[0]
	}
	r, e := check()
	r.Body[0], e.Body[0] = 'Y', 'Y'
	check()
}

func testTombstone(s *suite) {
	config := statestore.Key{Thing: "lamp", Shadow: "config"}
	s.mustCommit(s.put(lamp, 0, "a"), s.put(config, 0, "b"))
	dead := s.bury(lamp, 1, time.Hour)
	s.mustCommit(dead)
	s.wantLoad([]statestore.Key{lamp}, dead.Record)
	s.wantShadows("lamp", "", true, 10, "config")
	s.wantThings("", "", 10, "lamp")
	s.mustCommit(s.bury(config, 1, time.Hour))
	s.wantShadows("lamp", "", true, 10)
	s.wantThings("", "", 10)
	s.mustCommit(s.bury(config, 2, time.Hour))
	s.wantHistory(lamp, 0, 10, 1, 2)

	s.wantCommit([]statestore.Write{s.put(lamp, 0, "c")}, statestore.ErrConflict)
	s.mustCommit(s.put(lamp, 2, "c"))
	s.wantShadows("lamp", "", true, 10, "")
	s.wantThings("", "", 10, "lamp")
	s.wantHistory(lamp, 0, 10, 1, 2, 3)
}

func testExpiry(s *suite) {
	s.mustCommit(s.put(lamp, 0, "a"))
	s.mustCommit(s.bury(lamp, 1, time.Hour))
	s.clock.advance(time.Hour - time.Millisecond)
	s.wantVersion(lamp, 2)
	s.clock.advance(time.Millisecond)
	s.wantVersion(lamp, 0)
	s.wantHistory(lamp, 0, 10)
	s.wantCommit([]statestore.Write{s.put(lamp, 2, "b")}, statestore.ErrConflict)
	s.mustCommit(s.put(lamp, 0, "b"))
	s.wantVersion(lamp, 1)
	s.wantHistory(lamp, 0, 10, 1)
	s.wantShadows("lamp", "", true, 10, "")
	s.wantThings("", "", 10, "lamp")
}

func testSweep(s *suite) {
	soon, later, live := statestore.Key{Thing: "soon"}, statestore.Key{Thing: "later"}, statestore.Key{Thing: "live"}
	s.mustCommit(s.put(soon, 0, "a"), s.put(later, 0, "a"), s.put(live, 0, "a"))
	s.mustCommit(s.bury(soon, 1, time.Minute), s.bury(later, 1, time.Hour))
	s.clock.advance(10 * time.Minute)
	s.mustCommit(s.put(live, 1, "b"))
	if err := s.Sweep(s.Context()); err != nil {
		s.Fatalf("Sweep() = %v", err)
	}
	s.wantVersion(soon, 0)
	s.wantVersion(later, 2)
	s.wantVersion(live, 2)
	s.wantHistory(soon, 0, 10)
	s.wantHistory(later, 0, 10, 1, 2)
	s.wantHistory(live, 0, 10, 1, 2)
	s.clock.advance(statestore.DefaultHistoryAge - time.Minute)
	if err := s.Sweep(s.Context()); err != nil {
		s.Fatalf("Sweep() = %v", err)
	}
	s.wantVersion(live, 2)
	s.wantHistory(live, 1, 10, 2)
	s.wantThings("", "", 10, "live")
	s.mustCommit(s.put(soon, 0, "again"), s.put(live, 2, "c"))
	s.wantHistory(soon, 0, 10, 1)
	s.wantHistory(live, 1, 10, 2, 3)
}

func testThings(s *suite) {
	var writes []statestore.Write
	for _, name := range []string{"b", "a", "a-b", "aB", "ab", "a:1", "Z", "~", "abc"} {
		writes = append(writes, s.put(statestore.Key{Thing: name}, 0, "x"))
	}
	s.mustCommit(writes...)
	s.wantThings("", "", 100, "Z", "a", "a-b", "a:1", "aB", "ab", "abc", "b", "~")
	s.wantThings("", "", 9, "Z", "a", "a-b", "a:1", "aB", "ab", "abc", "b", "~")
	s.wantThings("", "", 3, "Z", "a", "a-b")
	s.wantThings("", "a-b", 3, "a:1", "aB", "ab")
	s.wantThings("", "a0", 2, "a:1", "aB")
	s.wantThings("", "~", 3)
	s.wantThings("", "~~", 3)
	s.wantThings("a", "", 100, "a", "a-b", "a:1", "aB", "ab", "abc")
	s.wantThings("a", "aB", 100, "ab", "abc")
	s.wantThings("a", "Z", 1, "a")
	s.wantThings("a", "b", 100)
	s.wantThings("ab", "", 1, "ab")
	s.wantThings("ab", "ab", 5, "abc")
	s.wantThings("abcd", "", 5)
	s.wantThings("", "", 0)
}

func testManyThings(s *suite) {
	const n = 3000
	var want []string
	for i := 0; i < n; i += 500 {
		var writes []statestore.Write
		for k := i; k < i+500; k++ {
			name := fmt.Sprintf("dev-%04d", k*7919%n) // every number once, in no order
			want = append(want, name)
			writes = append(writes, s.put(statestore.Key{Thing: name}, 0, "x"))
		}
		s.mustCommit(writes...)
	}
	slices.Sort(want)
	page := func(after string, limit int) []string {
		names, err := s.Things(s.Context(), "dev-", after, limit)
		if err != nil {
			s.Fatalf("Things(%q) = %v", after, err)
		}
		return names
	}
	var got []string
	for names := page("", 700); len(names) > 0; names = page(names[len(names)-1], 700) {
		got = append(got, names...)
	}
	if !slices.Equal(got, want) {
		s.Errorf("Things by page: %d names, want the %d that were stored in order", len(got), len(want))
	}
	for i, name := range want {
		if i%10 != 0 {
			s.mustCommit(s.bury(statestore.Key{Thing: name}, 1, time.Hour))
		}
	}
	s.wantThings("", "dev-0995", 3, "dev-1000", "dev-1010", "dev-1020")
	if got := page("", n); len(got) != n/10 {
		s.Errorf("Things after deletes: %d names, want %d", len(got), n/10)
	}
}

func testShadows(s *suite) {
	now := s.clock.now.Load()
	var writes []statestore.Write
	for i, name := range []string{"config", "", "$next", "Config", "z"} {
		w := s.put(statestore.Key{Thing: "lamp", Shadow: name}, 0, "x")
		w.Record.Version, w.Record.Modified = uint64(i+1), now+int64(i)
		w.History = nil
		writes = append(writes, w)
	}
	s.mustCommit(append(writes, s.put(statestore.Key{Thing: "lamp2"}, 0, "x"))...)
	s.wantShadows("lamp", "", true, 10, "", "$next", "Config", "config", "z")
	s.wantShadows("lamp", "", false, 10, "$next", "Config", "config", "z")
	s.wantShadows("lamp", "", true, 2, "", "$next")
	s.wantShadows("lamp", "$next", false, 2, "Config", "config")
	s.wantShadows("lamp", "d", false, 2, "z")
	s.wantShadows("lamp", "z", false, 2)
	s.wantShadows("lam", "", true, 2)
	s.wantShadows("lamp2", "", true, 2, "")
	s.wantShadows("lamp2", "", false, 2)
	got, err := s.Shadows(s.Context(), "lamp", "", true, 2)
	if err != nil {
		s.Fatalf("Shadows() = %v", err)
	}
	s.wantEqual("Shadows", got, []statestore.Info{
		{Shadow: "", Version: 2, Modified: now + 1},
		{Shadow: "$next", Version: 3, Modified: now + 2},
	})
}

func testHistory(s *suite) {
	s.mustCommit(s.put(lamp, 0, "1"))
	w := s.put(lamp, 1, "4")
	w.Record.Version, w.History[0].Version = 4, 4
	w.History = []statestore.Entry{
		{Version: 2, Time: 1 + s.clock.now.Load(), Body: []byte("two")},
		{Version: 3, Time: 2 + s.clock.now.Load(), Body: []byte("three")},
		w.History[0],
	}
	s.mustCommit(w, s.put(statestore.Key{Thing: "lamp", Shadow: "x"}, 0, "other"))
	quiet := s.put(lamp, 4, "5")
	quiet.History = nil
	s.mustCommit(quiet)
	s.wantHistory(lamp, 0, 10, 1, 2, 3, 4)
	s.wantHistory(lamp, 0, 2, 1, 2)
	s.wantHistory(lamp, 2, 1, 3)
	s.wantHistory(lamp, 4, 10)
	s.wantHistory(lamp, 100, 10)
	s.wantHistory(lamp, 0, 0)
	got, err := s.History(s.Context(), lamp, 1, 3)
	if err != nil {
		s.Fatalf("History() = %v", err)
	}
	s.wantEqual("History", got, w.History)
}

func testHistoryLimit(s *suite) {
	for v := range uint64(9) {
		s.mustCommit(s.put(lamp, v, "x"))
	}
	s.wantHistory(lamp, 0, 100, 5, 6, 7, 8, 9)
	var writes []statestore.Write
	w := s.put(lamp, 9, "many at once")
	w.Record.Version, w.History = 17, nil
	for v := uint64(10); v <= 17; v++ {
		w.History = append(w.History, statestore.Entry{Version: v, Time: s.clock.now.Load(), Body: []byte("x")})
	}
	s.mustCommit(append(writes, w)...)
	s.wantHistory(lamp, 0, 100, 13, 14, 15, 16, 17)

	gap := s.put(lamp, 17, "gap")
	gap.Record.Version, gap.History[0].Version = 20, 20
	s.mustCommit(gap)
	s.wantHistory(lamp, 0, 100, 16, 17, 20)
}

func testHistoryOff(s *suite) {
	s.mustCommit(s.put(lamp, 0, "a"))
	s.mustCommit(s.put(lamp, 1, "b"))
	s.wantHistory(lamp, 0, 10)
	s.wantVersion(lamp, 2)
}

func testMarks(s *suite) {
	config := statestore.Key{Thing: "lamp", Shadow: "config"}
	a, b := s.put(lamp, 0, "a"), s.put(config, 0, "b")
	a.Announce, b.Announce = 1, 1
	s.mustCommit(a, b)
	s.wantMarks(statestore.Mark{Key: lamp, Version: 1}, statestore.Mark{Key: config, Version: 1})
	s.announced(statestore.Mark{Key: lamp, Version: 1})
	s.wantMarks(statestore.Mark{Key: lamp, Version: 1}, statestore.Mark{Key: config, Version: 1})
	s.announced(statestore.Mark{Key: lamp, Version: 2}, statestore.Mark{Key: statestore.Key{Thing: "unknown"}, Version: 9})
	s.wantMarks(statestore.Mark{Key: config, Version: 1})

	a = s.put(lamp, 1, "a")
	a.Announce = 2
	s.mustCommit(a, s.put(config, 1, "not to be announced"))
	s.wantMarks(statestore.Mark{Key: lamp, Version: 2}, statestore.Mark{Key: config, Version: 1})
	dead := s.bury(lamp, 2, time.Hour)
	dead.Announce = 3
	s.mustCommit(dead)
	s.announced(statestore.Mark{Key: lamp, Version: 3}, statestore.Mark{Key: config, Version: 2})
	s.wantMarks(statestore.Mark{Key: lamp, Version: 3})
	s.announced(statestore.Mark{Key: lamp, Version: 2})
	s.wantMarks(statestore.Mark{Key: lamp, Version: 3})
	s.announced(statestore.Mark{Key: lamp, Version: 4})
	s.wantMarks()
}

func testMarkLower(s *suite) {
	for v := range uint64(4) {
		w := s.put(lamp, v, "x")
		w.Announce = v + 1
		s.mustCommit(w)
	}
	s.wantMarks(statestore.Mark{Key: lamp, Version: 1})
	s.announced(statestore.Mark{Key: lamp, Version: 3})
	s.wantMarks(statestore.Mark{Key: lamp, Version: 3})
	w := s.put(lamp, 4, "x")
	w.Announce = 2
	s.mustCommit(w)
	s.wantMarks(statestore.Mark{Key: lamp, Version: 2})
	s.announced(statestore.Mark{Key: lamp, Version: 100})
	s.wantMarks()
}

func testMarkError(s *suite) {
	a, b := s.put(lamp, 0, "a"), s.put(statestore.Key{Thing: "other"}, 0, "b")
	a.Announce, b.Announce = 1, 1
	s.mustCommit(a, b)
	calls := 0
	err := s.Unannounced(s.Context(), func(statestore.Mark) error {
		calls++
		return errStop
	})
	if !errors.Is(err, errStop) || calls != 1 {
		s.Errorf("Unannounced(failing) = %v after %d calls, want %v after 1", err, calls, errStop)
	}
	err = s.Unannounced(s.Context(), func(m statestore.Mark) error {
		m.Version++
		return s.Announced(s.Context(), []statestore.Mark{m})
	})
	if err != nil {
		s.Errorf("Unannounced(announcing) = %v, want nil", err)
	}
	s.wantMarks()
}

func testConcurrent(s *suite) {
	const writers, each, shadows = 8, 25, 3
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for i := range each * shadows {
				s.increment(statestore.Key{Thing: fmt.Sprint("counter", i%shadows)})
			}
		})
	}
	wg.Wait()
	for i := range shadows {
		key := statestore.Key{Thing: fmt.Sprint("counter", i)}
		s.wantVersion(key, writers*each)
		entries, err := s.History(s.Context(), key, 0, 1000)
		if err != nil || len(entries) != statestore.DefaultHistoryLimit || entries[0].Version != writers*each-statestore.DefaultHistoryLimit+1 {
			s.Errorf("History(%v): %d entries, %v, want the last %d", key, len(entries), err, statestore.DefaultHistoryLimit)
		}
	}
	s.wantMarks()
}

// increment writes the next version, whatever others do, and announces it.
func (s *suite) increment(key statestore.Key) {
	for {
		records, err := s.Load(s.Context(), []statestore.Key{key})
		if err != nil {
			s.Errorf("Load(%v) = %v", key, err)
			return
		}
		w := s.put(key, records[0].Version, "count")
		w.Announce = w.Record.Version
		errs := s.Commit(s.Context(), []statestore.Write{w})
		if errs != nil && errors.Is(errs[0], statestore.ErrConflict) {
			continue
		}
		if errs != nil {
			s.Errorf("Commit(%v) = %v", key, errs)
			return
		}
		if err := s.Announced(s.Context(), []statestore.Mark{{Key: key, Version: w.Record.Version + 1}}); err != nil {
			s.Errorf("Announced(%v) = %v", key, err)
		}
		return
	}
}

// calls returns what every method answers.
func (s *suite) calls(ctx context.Context) map[string]error {
	calls := map[string]error{}
	_, calls["Load"] = s.Load(ctx, []statestore.Key{lamp})
	calls["Commit"] = errors.Join(s.Commit(ctx, []statestore.Write{s.put(lamp, 1, "late")})...)
	calls["Announced"] = s.Announced(ctx, []statestore.Mark{{Key: lamp, Version: 2}})
	calls["Unannounced"] = s.Unannounced(ctx, func(statestore.Mark) error { return nil })
	_, calls["Things"] = s.Things(ctx, "", "", 10)
	_, calls["Shadows"] = s.Shadows(ctx, "lamp", "", true, 10)
	_, calls["History"] = s.History(ctx, lamp, 0, 10)
	calls["Put"] = s.Put(ctx, []statestore.Item{{Partition: "p", Key: []byte("k"), Value: []byte("late")}})
	calls["Scan"] = s.Scan(ctx, 0, func(statestore.Item) error { return nil })
	calls["Sweep"] = s.Sweep(ctx)
	calls["Ping"] = s.Ping(ctx)
	return calls
}

func testContext(s *suite) {
	s.mustCommit(s.put(lamp, 0, "a"))
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	for name, err := range s.calls(ctx) {
		if err == nil || errors.Is(err, statestore.ErrConflict) {
			s.Errorf("%s(ended context) = %v, want an error that is not a conflict", name, err)
		}
	}
	s.wantThings("", "", 10, "lamp")
	s.wantItems(0)
}

func testClose(s *suite) {
	s.mustCommit(s.put(lamp, 0, "a"))
	if err := s.Close(); err != nil {
		s.Fatalf("Close() = %v, want nil", err)
	}
	for name, err := range s.calls(s.Context()) {
		if !errors.Is(err, statestore.ErrClosed) {
			s.Errorf("%s() after Close = %v, want %v", name, err, statestore.ErrClosed)
		}
	}
	if err := s.Close(); err != nil {
		s.Errorf("second Close() = %v, want nil", err)
	}
}
