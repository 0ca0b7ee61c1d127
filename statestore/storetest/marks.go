package storetest

import (
	"errors"
	"time"

	"github.com/umbra-iot/umbra/statestore"
)

// errStop is what a callback of a case fails with.
var errStop = errors.New("stop")

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
