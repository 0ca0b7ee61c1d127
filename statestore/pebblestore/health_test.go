package pebblestore

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestPauseEndsWithTheStore: who closes a store whose flushes fail does not wait for the next attempt.
func TestPauseEndsWithTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &health{closing: make(chan struct{})}
		h.flushes.Store(20)
		create := func() (took time.Duration) {
			began := time.Now()
			f, err := patient{vfs.NewMem(), h}.Create("1.sst", "")
			if err != nil {
				t.Fatal(err)
			}
			_ = f.Close()
			return time.Since(began)
		}
		if took := create(); took != mostPause {
			t.Errorf("Create when flushes fail took %v, want %v", took, mostPause)
		}
		time.AfterFunc(mostPause/4, func() { close(h.closing) })
		if took := create(); took != mostPause/4 {
			t.Errorf("Create when the store closes took %v, want %v", took, mostPause/4)
		}
	})
}

// TestFlushOfNothing lets Pebble flush a table without entries, which it may do when it opens a database: that is no
// failure, though Pebble calls it an error.
func TestFlushOfNothing(t *testing.T) {
	t.Parallel()
	h := &health{onFailure: func(err error) { t.Errorf("OnFailure(%v)", err) }}
	var got error
	db, err := pebble.Open("db", &pebble.Options{FS: vfs.NewMem(), EventListener: &pebble.EventListener{
		FlushEnd: func(i pebble.FlushInfo) {
			got = i.Err
			h.flushed(i.Err)
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Flush(), db.Close()); err != nil {
		t.Error(err)
	}
	if got == nil || h.flushes.Load() != 0 {
		t.Errorf("the flush ended with %v, and %d failures were counted", got, h.flushes.Load())
	}
}
