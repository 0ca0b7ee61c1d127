package storetest

import "github.com/umbra-iot/umbra/statestore"

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
