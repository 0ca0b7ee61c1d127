package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/umbra-iot/umbra/statestore"
)

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
