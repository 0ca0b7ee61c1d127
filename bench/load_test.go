package bench

import (
	"context"
	"testing"
	"time"
)

// TestLoad drives the bare broker for a moment.
func TestLoad(t *testing.T) {
	t.Parallel()
	s := bareServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l, err := startLoad(ctx, s.addr, 10, s.traffic("t-"))
	if err != nil {
		t.Fatal(err)
	}
	for l.done.Load() < 1000 && ctx.Err() == nil {
		pause(ctx, time.Millisecond)
	}
	if err := l.end(); err != nil {
		t.Error(err)
	}
	if _, err := s.cpu(); err != nil {
		t.Errorf("cpu() = %v", err)
	}
}

// TestLoadFails checks that a load against nothing ends with an error.
func TestLoadFails(t *testing.T) {
	t.Parallel()
	if _, err := startLoad(t.Context(), "127.0.0.1:1", 3, plain("t-")); err == nil {
		t.Error("startLoad to a closed port gave no error")
	}
}
