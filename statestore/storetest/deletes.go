package storetest

import (
	"time"

	"github.com/umbra-iot/umbra/statestore"
)

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
