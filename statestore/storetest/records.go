package storetest

import (
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

// redo appends what the entries say to the body.
func redo(base statestore.Record, entries []statestore.Entry) ([]byte, error) {
	body := base.Body
	for _, e := range entries {
		body = fmt.Appendf(body, " %d:%s", e.Version, e.Body)
	}
	return body, nil
}

// testRedoable lets a shadow live by changes, some of them together, between them a whole body, a death and a conflict.
func testRedoable(s *suite) {
	s.clock.advance(time.Second)
	last := s.put(lamp, 0, "born")
	s.mustCommit(last)
	for i := range 60 {
		s.clock.advance(time.Millisecond)
		w := s.put(lamp, last.Record.Version, "")
		w.History = nil
		for v := w.Expect + 1; v <= w.Expect+1+uint64(i%3); v++ {
			w.History = append(w.History, statestore.Entry{Version: v, Time: s.clock.now.Load(), Body: []byte{byte(i)}})
			w.Record.Version = v
		}
		switch {
		case i%20 == 13:
			w = s.bury(lamp, last.Record.Version, time.Hour)
		case i%20 == 14 || i%11 == 5:
			w.Record.Body = []byte("whole")
		default:
			w.Redoable, w.Seen = true, s.clock.now.Load()
			var err error
			if w.Record.Body, err = redo(last.Record, w.History); err != nil {
				s.Fatal(err)
			}
		}
		s.mustCommit(w)
		s.wantCommit([]statestore.Write{w}, statestore.ErrConflict)
		s.wantLoad([]statestore.Key{lamp}, w.Record)
		last = w
	}
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
