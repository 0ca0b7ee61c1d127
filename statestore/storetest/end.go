package storetest

import (
	"context"
	"errors"

	"github.com/umbra-iot/umbra/statestore"
)

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
	_, calls["Get"] = s.Get(ctx, 0, "p", [][]byte{[]byte("k")})
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
