package redisstore_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/redisstore"
	"github.com/umbra-iot/umbra/statestore/storetest"
)

// calls returns how often Redis did a command.
func calls(r *storetest.RedisServer, command string) string {
	for line := range strings.Lines(r.Do("INFO commandstats")) {
		if rest, ok := strings.CutPrefix(line, "cmdstat_"+command+":calls="); ok {
			n, _, _ := strings.Cut(rest, ",")
			return n
		}
	}
	return "0"
}

// seen returns w with the time at which its writer knew that Expect was stored.
func seen(w statestore.Write, at time.Time) statestore.Write {
	w.Seen = at.UnixMilli()
	return w
}

// TestUsualWrites takes the script for the first version only: the others are one plain command each.
func TestUsualWrites(t *testing.T) {
	t.Parallel()
	r := storetest.Redis(t)
	s := open(t, r.URL, redisstore.Options{})
	for v := range uint64(20) {
		mustCommit(t, s, put(lamp, v))
	}
	if n := calls(r, "evalsha"); n != "1" {
		t.Errorf("Redis ran the script %s times, want once", n)
	}
	if n := calls(r, "xadd"); n != "20" {
		t.Errorf("Redis did %s commands XADD, want 20", n)
	}
	checkShadow(t, s, lamp, 20, 20)
	for _, v := range []uint64{3, 19, 20} {
		if err := commit(t.Context(), s, put(lamp, v)); (v == 20) != (err == nil) || v < 20 && !errors.Is(err, statestore.ErrConflict) {
			t.Errorf("Commit(expecting %d of 20) = %v", v, err)
		}
	}
	r.Do("DEL " + lampKey(t, r))
	if err := commit(t.Context(), s, put(lamp, 21)); !errors.Is(err, statestore.ErrConflict) {
		t.Errorf("Commit() to a shadow that went away = %v, want a conflict", err)
	}
}

// TestLostEnd lets Redis lose the last two of ten versions, as when it is started again from an append-only file
// without them. A writer that knows version 10 learns of it, and nothing is written behind the gap.
func TestLostEnd(t *testing.T) {
	t.Parallel()
	for _, reconnected := range []string{"during the commit", "before the commit"} {
		t.Run(reconnected, func(t *testing.T) {
			t.Parallel()
			r := storetest.Redis(t)
			s := open(t, r.URL, redisstore.Options{})
			for v := range uint64(10) {
				mustCommit(t, s, put(lamp, v))
			}
			known := laterThanNow()
			loseEnd(r, lampKey(t, r), 9, 10)
			r.Cut()
			if reconnected == "before the commit" {
				laterThanNow()
				for s.Ping(t.Context()) != nil { // until it notices that it was cut off
					runtime.Gosched()
				}
			}
			if err := commit(t.Context(), s, seen(put(lamp, 10), known)); !errors.Is(err, statestore.ErrConflict) {
				t.Errorf("Commit() behind lost versions = %v, want a conflict", err)
			}
			checkShadow(t, s, lamp, 8, 8)
			mustCommit(t, s, put(lamp, 8))
			checkShadow(t, s, lamp, 9, 9)
		})
	}
}

// laterThanNow waits until the clock has another millisecond, and returns it.
func laterThanNow() time.Time {
	begun := time.Now()
	for time.Since(begun) < 2*time.Millisecond {
		runtime.Gosched()
	}
	return time.Now()
}

func loseEnd(r *storetest.RedisServer, key string, first, last uint64) {
	for v := first; v <= last; v++ {
		r.Do(fmt.Sprintf("XDEL %s %d", key, v))
	}
	r.Do(fmt.Sprintf("XSETID %s %d-0", key, first-1))
}

// TestLostEndUnnoticed is like TestLostEnd behind a proxy that keeps connections while the Redis behind it changes: the
// write is done, and what was not lost is there. So it is when version 16 is lost, which would have had a body.
func TestLostEndUnnoticed(t *testing.T) {
	t.Parallel()
	for _, first := range []uint64{9, 14} {
		t.Run(fmt.Sprint("from ", first), func(t *testing.T) {
			t.Parallel()
			r := storetest.Redis(t)
			s := open(t, r.URL, redisstore.Options{})
			last := first + 2
			for v := range last {
				mustCommit(t, s, put(lamp, v))
			}
			loseEnd(r, lampKey(t, r), first, last)
			for v := last; v < 40; v++ {
				mustCommit(t, s, put(lamp, v))
				records, err := s.Load(t.Context(), []statestore.Key{lamp})
				if want := fmt.Sprint("body ", v+1); err != nil || records[0].Version != v+1 || string(records[0].Body) != want {
					t.Fatalf("Load() = %+v, %v, want version %d", records, err, v+1)
				}
			}
		})
	}
}
