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
		if got := divide(files); got != want {
			t.Errorf("divide(%d) = %+v, want %+v", files, got, want)
		}
	}
	all := openFiles().connections
	log := slog.New(slog.DiscardHandler)
	for set, want := range map[int]int{0: all, 1: 1, all: all, all + 1: all} {
		if got := mostConnections(set, log); got != want {
			t.Errorf("mostConnections(%d) = %d, want %d", set, got, want)
		}
	}
}
