package storetest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
	"github.com/umbra-iot/umbra/statestore/storetest"
)

var errFault = errors.New("fault")

func TestFaultyIsAStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(_ testing.TB, o statestore.Options) statestore.Store {
		return storetest.NewFaulty(memstore.New(o))
	})
}

// next writes the next version of one shadow and returns the error.
func next(ctx context.Context, s statestore.Store, expect uint64) error {
	errs := s.Commit(ctx, []statestore.Write{{
		Key:    statestore.Key{Thing: "lamp"},
		Expect: expect,
		Record: statestore.Record{Version: expect + 1},
	}})
	return errors.Join(errs...)
}

func TestFaultyFails(t *testing.T) {
	t.Parallel()
	f := storetest.NewFaulty(memstore.New(statestore.Options{}))
	f.FailBefore(2, errFault)
	for range 2 {
		if err := next(t.Context(), f, 0); !errors.Is(err, errFault) {
			t.Errorf("Commit after FailBefore = %v, want %v", err, errFault)
		}
	}
	f.FailAfter(1, errFault)
	if err := next(t.Context(), f, 0); !errors.Is(err, errFault) {
		t.Errorf("Commit after FailAfter = %v, want %v", err, errFault)
	}
	if err := next(t.Context(), f, 1); err != nil {
		t.Errorf("Commit on what FailAfter let through = %v, want nil", err)
	}
	f.SetDown(errFault)
	if err := f.Ping(t.Context()); !errors.Is(err, errFault) {
		t.Errorf("Ping when down = %v, want %v", err, errFault)
	}
	f.SetDown(nil)
	if err := f.Ping(t.Context()); err != nil {
		t.Errorf("Ping when up again = %v, want nil", err)
	}
}

func TestFaultyHolds(t *testing.T) {
	t.Parallel()
	f := storetest.NewFaulty(memstore.New(statestore.Options{}))
	release := f.Hold()
	done := make(chan error, 1)
	go func() { done <- next(t.Context(), f, 0) }()
	for deadline := time.Now().Add(5 * time.Second); f.Held() != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("Held() = %d, want 1", f.Held())
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := next(ctx, f, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("held Commit at its deadline = %v, want %v", err, context.DeadlineExceeded)
	}
	release()
	if err := <-done; err != nil {
		t.Errorf("released Commit = %v, want nil", err)
	}
	f.SetDelay(time.Millisecond)
	if err := next(t.Context(), f, 1); err != nil {
		t.Errorf("delayed Commit = %v, want nil", err)
	}
}

func TestRedisServer(t *testing.T) {
	t.Parallel()
	r := storetest.Redis(t)
	r.Do("SET k v")
	r.Cut()
	r.Pause()
	r.Resume()
	r.Do("CONFIG SET appendfsync always")
	r.Do("SET k w")
	r.Kill()
	r.Start()
	if got := r.Do("STRLEN k"); got != "1" {
		t.Errorf("STRLEN after Kill and Start = %s, want 1", got)
	}
}
