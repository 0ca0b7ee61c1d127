package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/redisstore"
	"github.com/umbra-iot/umbra/statestore/storetest"
)

var lamp = statestore.Key{Thing: "lamp"}

// put is a write of version expect+1 that has to be announced and, but for the first, can be redone.
func put(key statestore.Key, expect uint64) statestore.Write {
	v, now := expect+1, time.Now().UnixMilli()
	return statestore.Write{
		Key:      key,
		Expect:   expect,
		Record:   statestore.Record{Version: v, Modified: now, Body: fmt.Appendf(nil, "body %d", v)},
		History:  []statestore.Entry{{Version: v, Time: now, Body: fmt.Appendf(nil, "change %d", v)}},
		Announce: v,
		Redoable: expect > 0,
		Seen:     now + time.Hour.Milliseconds(), // as if every connection were older
	}
}

// whole is a write as put makes it that cannot be redone.
func whole(key statestore.Key, expect uint64) statestore.Write {
	w := put(key, expect)
	w.Redoable = false
	return w
}

// redo makes the body of a version as put does, from the one before.
func redo(base statestore.Record, entries []statestore.Entry) ([]byte, error) {
	v := base.Version
	if string(base.Body) != fmt.Sprint("body ", v) {
		return nil, fmt.Errorf("base of version %d has body %q", v, base.Body)
	}
	for _, e := range entries {
		if string(e.Body) != fmt.Sprint("change ", e.Version) || e.Version <= v {
			return nil, fmt.Errorf("entry after version %d is %d %q", v, e.Version, e.Body)
		}
		v = e.Version
	}
	return fmt.Appendf(nil, "body %d", v), nil
}

func commit(ctx context.Context, s statestore.Store, writes ...statestore.Write) error {
	return errors.Join(s.Commit(ctx, writes)...)
}

func open(t *testing.T, url string, o redisstore.Options) *redisstore.Store {
	t.Helper()
	s, err := redisstore.Open(t.Context(), url, statestore.Options{Redo: redo}, o)
	if err != nil {
		t.Fatalf("Open() = %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func mustCommit(t *testing.T, s statestore.Store, writes ...statestore.Write) {
	t.Helper()
	if err := commit(t.Context(), s, writes...); err != nil {
		t.Fatalf("Commit() = %v, want nil", err)
	}
}

// within returns a context that ends after d.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// checkShadow fails unless the shadow is whole, and at one of the versions from low to high.
func checkShadow(t *testing.T, s statestore.Store, key statestore.Key, low, high uint64) uint64 {
	t.Helper()
	records, err := s.Load(t.Context(), []statestore.Key{key})
	if err != nil {
		t.Fatalf("Load(%v) = %v", key, err)
	}
	v := records[0].Version
	if v < low || v > high {
		t.Errorf("%v is at version %d, want %d to %d", key, v, low, high)
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

func TestScriptsLost(t *testing.T) {
	t.Parallel()
	r := storetest.Redis(t)
	s := open(t, r.URL, redisstore.Options{})
	for v := range uint64(5) {
		r.Do("SCRIPT FLUSH")
		mustCommit(t, s, whole(lamp, v), whole(statestore.Key{Thing: "other"}, v))
		if err := s.Announced(t.Context(), []statestore.Mark{{Key: lamp, Version: v + 2}}); err != nil {
			t.Fatalf("Announced() = %v", err)
		}
	}
	r.Do("SCRIPT FLUSH")
	checkShadow(t, s, lamp, 5, 5)
	if got := marks(t, s); len(got) != 1 {
		t.Errorf("marks = %v, want only that of other", got)
	}
}

func TestConnectionsCut(t *testing.T) {
	t.Parallel()
	r := storetest.Redis(t)
	s := open(t, r.URL, redisstore.Options{})
	for v := range uint64(10) {
		mustCommit(t, s, put(lamp, v))
		r.Cut()
	}
	checkShadow(t, s, lamp, 10, 10)
}

// TestRestart starts Redis again while a commit waits for it.
func TestRestart(t *testing.T) {
	t.Parallel()
	r := storetest.Redis(t)
	s := open(t, r.URL, redisstore.Options{})
	for v := range uint64(3) {
		mustCommit(t, s, put(lamp, v))
		r.Kill()
		done := make(chan error, 1)
		go func() { done <- commit(t.Context(), s, put(statestore.Key{Thing: "other"}, v)) }()
		r.Start()
		if err := <-done; err != nil {
			t.Fatalf("Commit over a restart = %v, want nil", err)
		}
	}
	checkShadow(t, s, lamp, 3, 3)
	checkShadow(t, s, statestore.Key{Thing: "other"}, 3, 3)
}

// TestKill kills a Redis that syncs each write while writers commit.
func TestKill(t *testing.T) {
	t.Parallel()
	const writers = 8
	r := storetest.Redis(t, "--appendfsync", "always")
	s := open(t, r.URL, redisstore.Options{})
	var acked [writers]atomic.Uint64
	key := func(i int) statestore.Key { return statestore.Key{Thing: fmt.Sprint("thing", i)} }
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				for v := acked[i].Load(); ctx.Err() == nil; v++ {
					if commit(ctx, s, put(key(i), v)) != nil {
						return
					}
					acked[i].Store(v + 1)
				}
			})
		}
		for target := acked[0].Load() + 20; acked[0].Load() < target; {
			time.Sleep(time.Millisecond)
		}
		r.Kill()
		cancel()
		wg.Wait()
		r.Start()
		got := marks(t, s)
		for i := range writers {
			v := checkShadow(t, s, key(i), acked[i].Load(), acked[i].Load()+1)
			acked[i].Store(v)
			if got[key(i)] != 1 {
				t.Errorf("mark of %v is %d, want 1", key(i), got[key(i)])
			}
		}
	}
}

// TestPause stops Redis: nothing is refused and nothing is answered.
func TestPause(t *testing.T) {
	t.Parallel()
	const callers = 200
	r := storetest.Redis(t)
	s := open(t, r.URL, redisstore.Options{})
	mustCommit(t, s, put(lamp, 0))
	r.Pause()
	begun := time.Now()
	if err := commit(within(t, 300*time.Millisecond), s, put(lamp, 1)); err == nil || errors.Is(err, statestore.ErrConflict) {
		t.Errorf("Commit to a paused Redis = %v, want an error that is not a conflict", err)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("Commit with a deadline of 300 ms took %v", took)
	}
	begun = time.Now()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			if err := commit(t.Context(), s, put(statestore.Key{Thing: fmt.Sprint("thing", i)}, 0)); err == nil {
				t.Error("Commit to a paused Redis = nil, want an error")
			}
		})
	}
	wg.Wait()
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("%d commits without a deadline took %v, want the time of a few timeouts", callers, took)
	}
	if err := s.Ping(t.Context()); err == nil {
		t.Error("Ping of a paused Redis = nil, want an error")
	}
	r.Resume()
	v := checkShadow(t, s, lamp, 1, 2)
	mustCommit(t, s, put(lamp, v))
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("Ping after the pause = %v, want nil", err)
	}
}

// TestRefused lets Redis refuse writes for reasons of its own.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ refuse, accept, want string }{
		{"CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "OOM"},
		{"CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0", "NOREPLICAS"},
		{"REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "READONLY"},
		{"ACL SETUSER default -evalsha -eval -xadd", "ACL SETUSER default +evalsha +eval +xadd", "NOPERM"},
	} {
		t.Run(c.want, func(t *testing.T) {
			t.Parallel()
			r := storetest.Redis(t)
			s := open(t, r.URL, redisstore.Options{})
			mustCommit(t, s, put(lamp, 0))
			r.Do(c.refuse)
			for _, w := range []statestore.Write{put(lamp, 1), whole(lamp, 1)} {
				err := commit(within(t, 500*time.Millisecond), s, w)
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("Commit after %s = %v, want %q", c.refuse, err, c.want)
				}
			}
			checkShadow(t, s, lamp, 1, 1)
			r.Do(c.accept)
			mustCommit(t, s, put(lamp, 1))
			checkShadow(t, s, lamp, 2, 2)
		})
	}
}

// proxy stands between a store and Redis and swallows answers.
type proxy struct {
	url     string
	swallow atomic.Pointer[func()] // called with the next answer, which is lost with its connection
}

func newProxy(t *testing.T, r *storetest.RedisServer) *proxy {
	t.Helper()
	target := strings.TrimSuffix(strings.TrimPrefix(r.URL, "redis://"), "/0")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{url: "redis://" + l.Addr().String() + "/0"}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { l.Close() })
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				continue
			}
			wg.Go(func() {
				_, _ = io.Copy(server, client)
				server.Close()
			})
			wg.Go(func() {
				p.answer(client, server)
				client.Close()
				server.Close()
			})
		}
	})
	return p
}

func (p *proxy) answer(client, server net.Conn) {
	buf := make([]byte, 1<<16)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		if f := p.swallow.Swap(nil); f != nil {
			(*f)()
			return
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

// TestAnswerLost loses the answer to a commit that was done.
func TestAnswerLost(t *testing.T) {
	t.Parallel()
	r := storetest.Redis(t)
	p := newProxy(t, r)
	s, other := open(t, p.url, redisstore.Options{}), open(t, r.URL, redisstore.Options{Node: "other"})
	mustCommit(t, s, put(lamp, 0))

	nothing := func() {}
	p.swallow.Store(&nothing)
	mustCommit(t, s, put(lamp, 1))
	checkShadow(t, s, lamp, 2, 2)

	overwrite := func() { mustCommit(t, other, put(lamp, 3)) }
	p.swallow.Store(&overwrite)
	err := commit(t.Context(), s, put(lamp, 2))
	if err == nil || errors.Is(err, statestore.ErrConflict) {
		t.Errorf("Commit that was done, unanswered and overwritten = %v, want an error that is not a conflict", err)
	}
	checkShadow(t, s, lamp, 4, 4)

	if err := commit(t.Context(), s, put(lamp, 2)); !errors.Is(err, statestore.ErrConflict) {
		t.Errorf("Commit(stale) = %v, want %v", err, statestore.ErrConflict)
	}
}

// TestRefusedLater refuses the second attempt of a commit that was done, unanswered: it may still have to be announced.
func TestRefusedLater(t *testing.T) {
	t.Parallel()
	r := storetest.Redis(t)
	p := newProxy(t, r)
	s := open(t, p.url, redisstore.Options{})
	mustCommit(t, s, put(lamp, 0))
	if err := s.Announced(t.Context(), []statestore.Mark{{Key: lamp, Version: 2}}); err != nil {
		t.Fatalf("Announced() = %v", err)
	}
	refuse := func() { r.Do("ACL SETUSER default -evalsha -eval") }
	p.swallow.Store(&refuse)
	err := commit(t.Context(), s, put(lamp, 1))
	if err == nil || errors.Is(err, statestore.ErrConflict) || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("Commit() whose second attempt is refused = %v, want why", err)
	}
	checkShadow(t, s, lamp, 2, 2)
	if got := marks(t, s); got[lamp] != 2 {
		t.Errorf("marks = %v, want version 2 of %v", got, lamp)
	}
}

// TestNodes shares shadows between two nodes; each has its own outbox.
func TestNodes(t *testing.T) {
	t.Parallel()
	r := storetest.Redis(t)
	a, b := open(t, r.URL, redisstore.Options{Node: "a"}), open(t, r.URL, redisstore.Options{Node: "b"})
	mustCommit(t, a, put(lamp, 0))
	mustCommit(t, b, put(lamp, 1))
	if err := commit(t.Context(), a, put(lamp, 1)); !errors.Is(err, statestore.ErrConflict) {
		t.Errorf("Commit of the slower node = %v, want %v", err, statestore.ErrConflict)
	}
	if err := a.Announced(t.Context(), []statestore.Mark{{Key: lamp, Version: 2}}); err != nil {
		t.Errorf("Announced() = %v", err)
	}
	if got := marks(t, a); len(got) != 0 {
		t.Errorf("marks of node a = %v, want none", got)
	}
	if got := marks(t, b); len(got) != 1 || got[lamp] != 2 {
		t.Errorf("marks of node b = %v, want version 2 of %v", got, lamp)
	}
}
