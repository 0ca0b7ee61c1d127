package redisstore_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/redisstore"
	"github.com/umbra-iot/umbra/statestore/storetest"
)

// length returns the number of commits that Redis holds of a shadow.
func length(t *testing.T, r *storetest.RedisServer, key string) int {
	t.Helper()
	reply := r.Do("XLEN " + key)
	n, err := strconv.Atoi(reply)
	if err != nil {
		t.Fatalf("XLEN %s = %q", key, reply)
	}
	return n
}

// lampKey returns the key of the only shadow in a Redis.
func lampKey(t *testing.T, r *storetest.RedisServer) string {
	t.Helper()
	for b := range 64 {
		key := "umbra:{" + string([]byte{'0' + byte(b/10), '0' + byte(b%10)}) + "}:shadow:lamp"
		if length(t, r, key) > 0 {
			return key
		}
	}
	t.Fatal("no key of lamp")
	return ""
}

// TestHistoryIsShortened keeps what Redis holds for a shadow near the limit, also after the limit was lowered.
func TestHistoryIsShortened(t *testing.T) {
	t.Parallel()
	r := storetest.Redis(t)
	var v uint64
	for limit, most := range map[int]int{200: 300, 40: 140, 5: 5, -1: 1} { // it may take a node of the stream with 100 more
		s, err := redisstore.Open(t.Context(), r.URL, statestore.Options{HistoryLimit: limit, Redo: redo}, redisstore.Options{})
		if err != nil {
			t.Fatalf("Open() = %v", err)
		}
		for range 350 {
			mustCommit(t, s, put(lamp, v))
			v++
		}
		if n := length(t, r, lampKey(t, r)); n > most {
			t.Errorf("after version %d with limit %d Redis holds %d commits, want at most %d", v, limit, n, most)
		}
		records, err := s.Load(t.Context(), []statestore.Key{lamp})
		if want := fmt.Sprint("body ", v); err != nil || string(records[0].Body) != want {
			t.Errorf("Load() at version %d with limit %d = %+v, %v, want %q", v, limit, records, err, want)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	}
}

// TestSweepRemovesOldHistory of a shadow that has not changed, but for what the record is made of, and of no other.
func TestSweepRemovesOldHistory(t *testing.T) {
	t.Parallel()
	r := storetest.Redis(t)
	now := time.Now()
	s, err := redisstore.Open(t.Context(), r.URL, statestore.Options{Now: func() time.Time { return now }, Redo: redo}, redisstore.Options{})
	if err != nil {
		t.Fatalf("Open() = %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	named, fresh := statestore.Key{Thing: "lamp", Shadow: "config"}, statestore.Key{Thing: "fresh"}
	for v := range uint64(37) {
		mustCommit(t, s, put(lamp, v), put(named, v))
	}
	now = now.Add(statestore.DefaultHistoryAge + time.Hour)
	for v := range uint64(37) {
		w := put(fresh, v)
		w.Record.Modified = now.UnixMilli()
		mustCommit(t, s, w)
	}
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatalf("Sweep() = %v", err)
	}
	for key, want := range map[statestore.Key]int{lamp: 6, named: 6, fresh: 37} { // versions 32 to 37
		got, err := s.History(t.Context(), key, 0, 100)
		if err != nil || len(got) != want {
			t.Errorf("History(%v) after Sweep = %d entries, %v, want %d", key, len(got), err, want)
		}
	}
	records, err := s.Load(t.Context(), []statestore.Key{lamp, named, fresh})
	if err != nil {
		t.Fatalf("Load() after Sweep = %v", err)
	}
	for _, r := range records {
		if r.Version != 37 || string(r.Body) != "body 37" {
			t.Errorf("Load() after Sweep has version %d, %q, want 37", r.Version, r.Body)
		}
	}
}

// TestOutboxSurvives opens a store again: marks of the run before are there until announced.
func TestOutboxSurvives(t *testing.T) {
	t.Parallel()
	r := storetest.Redis(t)
	s := open(t, r.URL, redisstore.Options{})
	other := statestore.Key{Thing: "other", Shadow: "config"}
	mustCommit(t, s, put(lamp, 0), put(other, 0))
	mustCommit(t, s, put(lamp, 1))
	if err := s.Announced(t.Context(), []statestore.Mark{{Key: lamp, Version: 2}}); err != nil {
		t.Fatalf("Announced() = %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("Close() = %v", err)
	}
	s = open(t, r.URL, redisstore.Options{})
	// The mark of the first commit stands for both of its shadows, so version 1 of lamp comes again.
	if got := marks(t, s); len(got) != 2 || got[lamp] != 1 || got[other] != 1 {
		t.Errorf("marks after a restart = %v, want version 1 of both", got)
	}
	if err := s.Announced(t.Context(), []statestore.Mark{{Key: lamp, Version: 3}, {Key: other, Version: 2}}); err != nil {
		t.Fatalf("Announced() = %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("Close() = %v", err)
	}
	if got := marks(t, open(t, r.URL, redisstore.Options{})); len(got) != 0 {
		t.Errorf("marks after all was announced = %v, want none", got)
	}
	if n := r.Do("KEYS *outbox*"); n != "0" {
		t.Errorf("%s keys of the outbox are left after all was announced, want 0", n)
	}
}
