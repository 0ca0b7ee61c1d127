package main

import (
	"log/slog"
	"math"
	"testing"
)

func TestOpenFilesAreDivided(t *testing.T) {
	t.Parallel()
	for files, want := range map[int]shares{
		10: {2, 1}, 256: {64, 128}, 1024: {256, 704}, 4000: {1000, 2936}, 1 << 20: {1000, 1<<20 - 1064}, math.MaxInt32: {1000, math.MaxInt32 - 1064},
	} {
		if got := divide(files, 32); got != want {
			t.Errorf("divide(%d, 32) = %+v, want %+v", files, got, want)
		}
	}
	if got, want := divide(4000, 1000), (shares{1000, 1968}); got != want {
		t.Errorf("divide(4000, 1000) = %+v, want %+v", got, want)
	}
	all := openFiles(32).connections
	log := slog.New(slog.DiscardHandler)
	for set, want := range map[int]int{0: all, 1: 1, all: all, all + 1: all} {
		if got := mostConnections(set, 32, log); got != want {
			t.Errorf("mostConnections(%d) = %d, want %d", set, got, want)
		}
	}
}
