package pebblestore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/pebblestore"
)

var lamp = statestore.Key{Thing: "lamp"}

// put is a write of version expect+1 that has to be announced.
func put(key statestore.Key, expect uint64) statestore.Write {
	v := expect + 1
	return statestore.Write{
		Key:      key,
		Expect:   expect,
		Record:   statestore.Record{Version: v, Modified: int64(v), Body: fmt.Appendf(nil, "body %d", v)},
		History:  []statestore.Entry{{Version: v, Time: int64(v), Body: fmt.Appendf(nil, "change %d", v)}},
		Announce: v,
	}
}

func commit(ctx context.Context, s statestore.Store, writes ...statestore.Write) error {
	return errors.Join(s.Commit(ctx, writes)...)
}

func open(t *testing.T, fs vfs.FS, dir string) *pebblestore.Store {
	t.Helper()
	s, err := pebblestore.Open(dir, statestore.Options{}, pebblestore.Options{FS: fs})
	if err != nil {
		t.Fatalf("Open(%s) = %v", dir, err)
	}
	return s
}

func marks(t *testing.T, s statestore.Store) map[statestore.Key]uint64 {
	t.Helper()
	got := map[statestore.Key]uint64{}
	err := s.Unannounced(t.Context(), func(m statestore.Mark) error {
		got[m.Key] = m.Version
		return nil
	})
	if err != nil {
		t.Fatalf("Unannounced() = %v", err)
	}
	return got
}

// checkShadow fails unless the shadow is whole: its record, the history up to it
// and, if there is a version at all, a mark that is not above floor+1.
func checkShadow(t *testing.T, s statestore.Store, key statestore.Key, floor uint64) uint64 {
	t.Helper()
	records, err := s.Load(t.Context(), []statestore.Key{key})
	if err != nil {
		t.Fatalf("Load(%v) = %v", key, err)
	}
	v := records[0].Version
	if v < floor {
		t.Errorf("%v is at version %d, want at least %d, which was acknowledged", key, v, floor)
	}
	if want := fmt.Sprint("body ", v); v > 0 && string(records[0].Body) != want {
		t.Errorf("%v has body %q, want %q", key, records[0].Body, want)
	}
	entries, err := s.History(t.Context(), key, 0, 1000)
	if err != nil {
		t.Fatalf("History(%v) = %v", key, err)
	}
	if want := int(min(v, statestore.DefaultHistoryLimit)); len(entries) != want {
		t.Errorf("%v has %d history entries at version %d, want %d", key, len(entries), v, want)
	}
	for i, e := range entries {
		if e.Version != v-uint64(len(entries)-1-i) || string(e.Body) != fmt.Sprint("change ", e.Version) {
			t.Errorf("%v has history entry %d of version %d %q", key, i, e.Version, e.Body)
		}
	}
	return v
}

func TestReopen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "store")
	s := open(t, nil, dir)
	other := statestore.Key{Thing: "lamp", Shadow: "other"}
	for v := range uint64(150) {
		if err := commit(t.Context(), s, put(lamp, v), put(other, v)); err != nil {
			t.Fatalf("Commit() = %v", err)
		}
	}
	if err := s.Announced(t.Context(), []statestore.Mark{{Key: lamp, Version: 151}}); err != nil {
		t.Fatalf("Announced() = %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("Close() = %v", err)
	}
	s = open(t, nil, dir)
	defer s.Close()
	checkShadow(t, s, lamp, 150)
	checkShadow(t, s, other, 150)
	if got := marks(t, s); len(got) != 1 || got[other] != 1 {
		t.Errorf("marks after Close and Open = %v, want only version 1 of %v", got, other)
	}
	if err := commit(t.Context(), s, put(lamp, 149)); !errors.Is(err, statestore.ErrConflict) {
		t.Errorf("Commit(stale) = %v, want %v", err, statestore.ErrConflict)
	}
	if err := commit(t.Context(), s, put(lamp, 150)); err != nil {
		t.Errorf("Commit() = %v, want nil", err)
	}
}

// TestPowerCut cuts the power at random moments while writers commit and
// announce: what was not synced is lost in part.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	const writers, cuts = 8, 12
	files := vfs.NewCrashableMem()
	s := open(t, files, "db")
	var acked, announced [writers]atomic.Uint64
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	key := func(i int) statestore.Key { return statestore.Key{Thing: fmt.Sprint("thing", i)} }
	for i := range writers {
		wg.Go(func() {
			for v := uint64(0); ctx.Err() == nil; v++ {
				if err := commit(t.Context(), s, put(key(i), v)); err != nil {
					t.Errorf("Commit() = %v", err)
					return
				}
				acked[i].Store(v + 1)
				if v%3 != 0 {
					continue
				}
				announced[i].Store(v + 1)
				if err := s.Announced(t.Context(), []statestore.Mark{{Key: key(i), Version: v + 2}}); err != nil {
					t.Errorf("Announced() = %v", err)
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(1, 2))
	for cut := range cuts {
		for target := acked[0].Load() + 20; acked[0].Load() < target && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
		var floor [writers]uint64
		for i := range writers {
			floor[i] = acked[i].Load()
		}
		after := files.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: cut * 100 / (cuts - 1), RNG: random})
		var ceiling [writers]uint64
		for i := range writers {
			ceiling[i] = announced[i].Load()
		}
		c := open(t, after, "db")
		got := marks(t, c)
		for i := range writers {
			v := checkShadow(t, c, key(i), floor[i])
			// Versions that were not announced before the cut have a mark at or below them.
			if mark, ok := got[key(i)]; v > ceiling[i] && (!ok || mark > ceiling[i]+1) {
				t.Errorf("%v at version %d, announced up to %d at most, has mark %d", key(i), v, ceiling[i], mark)
			}
		}
		if err := c.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	}
	cancel()
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
}

// faults wraps a file system: syncs of logs fail or hang, and tables cannot be created, when told to.
type faults struct {
	fail   atomic.Bool
	hang   atomic.Pointer[chan struct{}]
	full   atomic.Bool
	noLog  atomic.Bool
	failed atomic.Int64 // tables that could not be created
}

func (f *faults) wrap(files vfs.FS) vfs.FS {
	return errorfs.Wrap(files, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") && f.full.Load() {
			f.failed.Add(1)
			return syscall.ENOSPC
		}
		if (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpReuseForWrite) && strings.HasSuffix(op.Path, ".log") && f.noLog.Load() {
			return errorfs.ErrInjected
		}
		if op.Kind != errorfs.OpFileSyncData || !strings.HasSuffix(op.Path, ".log") {
			return nil
		}
		if gate := f.hang.Load(); gate != nil {
			<-*gate
		}
		if f.fail.Load() {
			return errorfs.ErrInjected
		}
		return nil
	}))
}

func TestFailedSync(t *testing.T) {
	t.Parallel()
	var f faults
	var log strings.Builder
	var failures []error
	files := vfs.NewMem()
	s, err := pebblestore.Open("db", statestore.Options{}, pebblestore.Options{
		FS:        f.wrap(files),
		Log:       slog.New(slog.NewTextHandler(&log, nil)),
		OnFailure: func(err error) { failures = append(failures, err) },
	})
	if err != nil {
		t.Fatalf("Open() = %v", err)
	}
	if err := commit(t.Context(), s, put(lamp, 0)); err != nil {
		t.Fatalf("Commit() = %v", err)
	}
	f.fail.Store(true)
	if err := commit(t.Context(), s, put(lamp, 1)); err == nil || errors.Is(err, statestore.ErrConflict) {
		t.Errorf("Commit with a failing disk = %v, want an error that is not a conflict", err)
	}
	f.fail.Store(false)
	if err := commit(t.Context(), s, put(statestore.Key{Thing: "other"}, 0)); err == nil {
		t.Error("Commit after a failed sync = nil, want an error")
	}
	if err := s.Ping(t.Context()); err == nil {
		t.Error("Ping after a failed sync = nil, want an error")
	}
	if _, err := s.Load(t.Context(), []statestore.Key{lamp}); err == nil {
		t.Error("Load after a failed sync = nil, want an error: what it would show may be lost")
	}
	_ = s.Close() // reports the failure, too
	if len(failures) != 1 || !errors.Is(failures[0], errorfs.ErrInjected) {
		t.Errorf("OnFailure was called with %v, want the failure once", failures)
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d errors were logged, want 1:\n%s", n, &log)
	}
	s = open(t, files, "db")
	defer s.Close()
	checkShadow(t, s, lamp, 1)
}

// TestNoNextLog lets the database begin another log on a disk that has no room for one.
func TestNoNextLog(t *testing.T) {
	t.Parallel()
	var f faults
	failure := make(chan error)
	s, err := pebblestore.Open("db", statestore.Options{HistoryLimit: -1}, pebblestore.Options{
		FS: f.wrap(vfs.NewMem()),
		OnFailure: func(err error) {
			failure <- err
			select {} // as a process that ends: Pebble would panic
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.noLog.Store(true)
	go func() { // until the end of the test's process
		for v := uint64(0); ; v++ {
			w := put(lamp, v)
			w.Record.Body = make([]byte, 1<<20)
			_ = commit(context.Background(), s, w)
		}
	}()
	if err := <-failure; !errors.Is(err, errorfs.ErrInjected) {
		t.Errorf("OnFailure(%v), want %v", err, errorfs.ErrInjected)
	}
}

// TestNoRoomForTables fills a disk until the store holds more in memory than it wants to: then it makes callers wait for
// as long as they have time. It tries to write its memory down now and then, and goes on by itself when it can.
func TestNoRoomForTables(t *testing.T) {
	t.Parallel()
	var f faults
	stalled := make(chan struct{})
	s, err := pebblestore.Open(t.TempDir(), statestore.Options{HistoryLimit: -1}, pebblestore.Options{
		FS: f.wrap(vfs.Default), OnFailure: func(err error) { t.Errorf("OnFailure(%v)", err) },
		Log: slog.New(tellStall{slog.DiscardHandler, sync.OnceFunc(func() { close(stalled) })}),
	})
	if err != nil {
		t.Fatal(err)
	}
	f.full.Store(true)
	big := func(v uint64) statestore.Write {
		return statestore.Write{Key: lamp, Expect: v, Record: statestore.Record{Version: v + 1, Body: make([]byte, 4<<20)}}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-stalled
		cancel()
	}()
	stored := uint64(0)
	for ; err == nil; stored++ {
		err = commit(ctx, s, big(stored))
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Commit without room = %v, want %v", err, context.Canceled)
	}
	if n := f.failed.Load(); n == 0 || n > 100 {
		t.Errorf("%d attempts to create a table, want a few", n)
	}
	f.full.Store(false)
	if err := commit(t.Context(), s, put(statestore.Key{Thing: "other"}, 0)); err != nil {
		t.Errorf("Commit with room again = %v", err)
	}
	records, err := s.Load(t.Context(), []statestore.Key{lamp})
	if err != nil || records[0].Version < stored-1 {
		t.Errorf("Load() = version %d, %v, want %d at least", records[0].Version, err, stored-1)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
}

// tellStall is a log that calls stalled when writes have to wait.
type tellStall struct {
	slog.Handler
	stalled func()
}

func (tellStall) Enabled(context.Context, slog.Level) bool { return true }

func (h tellStall) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "writes wait for compactions" {
		h.stalled()
	}
	return nil
}

// TestOpenOnAFullDisk has Pebble write down what the last process left in the log.
func TestOpenOnAFullDisk(t *testing.T) {
	t.Parallel()
	files := vfs.NewCrashableMem()
	s := open(t, files, "db")
	if err := commit(t.Context(), s, put(lamp, 0)); err != nil {
		t.Fatal(err)
	}
	after := files.CrashClone(vfs.CrashCloneCfg{})
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	var f faults
	f.full.Store(true)
	s, err := pebblestore.Open("db", statestore.Options{}, pebblestore.Options{FS: f.wrap(after), OnFailure: func(err error) {
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("OnFailure(%v), want %v", err, syscall.ENOSPC)
		}
		if f.failed.Load() > 2 {
			f.full.Store(false)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if f.failed.Load() == 0 {
		t.Error("the disk was never full")
	}
	checkShadow(t, s, lamp, 1)
	if err := s.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
}

func TestHangingSync(t *testing.T) {
	t.Parallel()
	var f faults
	s := open(t, f.wrap(vfs.NewMem()), "db")
	if err := commit(t.Context(), s, put(lamp, 0)); err != nil {
		t.Fatalf("Commit() = %v", err)
	}
	gate := make(chan struct{})
	f.hang.Store(&gate)
	short := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	if err := commit(short(), s, put(lamp, 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Commit on a hanging disk = %v, want %v", err, context.DeadlineExceeded)
	}
	if _, err := s.Load(short(), []statestore.Key{lamp}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Load of what may not be on disk = %v, want %v", err, context.DeadlineExceeded)
	}
	if err := s.Ping(short()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Ping on a hanging disk = %v, want %v", err, context.DeadlineExceeded)
	}
	f.hang.Store(nil)
	close(gate)
	checkShadow(t, s, lamp, 2)
	if err := commit(t.Context(), s, put(lamp, 2)); err != nil {
		t.Errorf("Commit after the disk came back = %v, want nil", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
}

// TestOpenTwice opens a directory that this process, and then another, has open.
func TestOpenTwice(t *testing.T) {
	t.Parallel()
	const variable = "PEBBLESTORE_TEST_DIR"
	if dir := os.Getenv(variable); dir != "" {
		_, err := pebblestore.Open(dir, statestore.Options{}, pebblestore.Options{})
		fmt.Println("answer:", err)
		return
	}
	dir := t.TempDir()
	s := open(t, nil, dir)
	defer s.Close()
	want := dir + " is in use by another process"
	if _, err := pebblestore.Open(dir, statestore.Options{}, pebblestore.Options{}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("second Open = %v, want %q", err, want)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOpenTwice$")
	cmd.Env = append(os.Environ(), variable+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
		t.Errorf("Open by another process: %v, %s, want %q", err, out, want)
	}
}

func TestOpenUnknown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, key, value, want string }{
		{"later format", "\x00format", "7 v9.1.0", "data format 7, created by version v9.1.0"},
		{"other program", "some", "thing", "belongs to another program"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			files := vfs.NewMem()
			db, err := pebble.Open("db", &pebble.Options{FS: files})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Set([]byte(c.key), []byte(c.value), pebble.Sync), db.Close()); err != nil {
				t.Fatal(err)
			}
			_, err = pebblestore.Open("db", statestore.Options{}, pebblestore.Options{FS: files})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open() = %v, want %q", err, c.want)
			}
		})
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pebblestore.Open(file, statestore.Options{}, pebblestore.Options{}); err == nil {
		t.Errorf("Open(%s) = nil, want an error: it is a file", file)
	}
}
