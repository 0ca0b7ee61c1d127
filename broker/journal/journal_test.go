package journal_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/umbra-iot/umbra/broker/journal"
	"github.com/umbra-iot/umbra/statestore"
)

// store keeps what was put, and fails or waits when told to.
type store struct {
	mu   sync.Mutex
	puts [][]string
	err  error
	gate chan struct{}
}

func (s *store) Put(ctx context.Context, items []statestore.Item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if gate := s.gate; gate != nil {
		s.mu.Unlock()
		select {
		case <-gate:
		case <-ctx.Done():
		}
		s.mu.Lock()
	}
	if s.err != nil || ctx.Err() != nil {
		return errors.Join(s.err, ctx.Err())
	}
	var put []string
	for _, it := range items {
		put = append(put, it.Partition+"="+string(it.Value))
	}
	s.puts = append(s.puts, put)
	return nil
}

func (s *store) Scan(context.Context, byte, func(statestore.Item) error) error { return nil }

func (s *store) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// hold lets Put wait for release.
func (s *store) hold() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gate := make(chan struct{})
	s.gate = gate
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.gate = nil
		close(gate)
	}
}

func (s *store) wantPuts(t *testing.T, want ...[]string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.EqualFunc(s.puts, want, slices.Equal) {
		t.Errorf("puts %q, want %q", s.puts, want)
	}
}

// source is a value to store.
type source struct {
	name   string
	mu     sync.Mutex
	value  int
	stored int
	given  int
	queued bool
}

func (s *source) set(j *journal.Journal, value int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value = value
	if !s.queued {
		s.queued = true
		j.Touch(s)
	}
}

func (s *source) Drain(b *journal.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queued, s.given = false, s.value
	from := len(b.Buf)
	b.Buf = fmt.Append(b.Buf, s.value)
	b.Items = append(b.Items, statestore.Item{Partition: s.name, Key: []byte{}, Value: b.Buf[from:]})
}

func (s *source) Stored() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored = s.given
}

// notes are what callbacks told, in order.
type notes struct {
	mu   sync.Mutex
	list []string
}

func (n *notes) note(what string) func(error) {
	return func(err error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if err != nil {
			what += " " + err.Error()
		}
		n.list = append(n.list, what)
	}
}

func (n *notes) want(t *testing.T, want ...string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.list, want) {
		t.Errorf("told %q, want %q", n.list, want)
	}
}

var errStore = errors.New("broken")

// run runs a test in a bubble, with a journal that is closed at its end.
func run(t *testing.T, test func(*testing.T, *store, *journal.Journal, *notes)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		j := journal.New(journal.Options{Store: s})
		test(t, s, j, &notes{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_ = j.Close(ctx)
	})
}

func TestAfter(t *testing.T) {
	run(t, func(t *testing.T, s *store, j *journal.Journal, n *notes) {
		j.After(n.note("nothing to wait for"))
		n.want(t, "nothing to wait for")
		a := &source{name: "a"}
		a.set(j, 1)
		j.After(n.note("first"))
		j.After(n.note("second"))
		synctest.Wait()
		n.want(t, "nothing to wait for", "first", "second")
		s.wantPuts(t, []string{"a=1"})
		if a.stored != 1 {
			t.Errorf("Stored() after the value %d, want 1", a.stored)
		}
	})
}

func TestWhatWaitsIsOneCommit(t *testing.T) {
	run(t, func(t *testing.T, s *store, j *journal.Journal, n *notes) {
		release := s.hold()
		a, b := &source{name: "a"}, &source{name: "b"}
		a.set(j, 1)
		j.After(n.note("1"))
		synctest.Wait()
		j.After(n.note("also 1")) // nothing was touched since
		b.set(j, 2)
		a.set(j, 2)
		b.set(j, 3)
		j.After(n.note("2"))
		j.After(n.note("3"))
		synctest.Wait()
		n.want(t)
		release()
		synctest.Wait()
		s.wantPuts(t, []string{"a=1"}, []string{"b=3", "a=2"})
		n.want(t, "1", "also 1", "2", "3")
	})
}

func TestDelay(t *testing.T) {
	run(t, func(t *testing.T, s *store, j *journal.Journal, _ *notes) {
		a := &source{name: "a"}
		a.set(j, 1)
		time.Sleep(49 * time.Millisecond)
		s.wantPuts(t)
		a.set(j, 2)
		time.Sleep(2 * time.Millisecond)
		s.wantPuts(t, []string{"a=2"})
		a.set(j, 3)
		j.Kick()
		synctest.Wait()
		s.wantPuts(t, []string{"a=2"}, []string{"a=3"})
	})
}

func TestFailure(t *testing.T) {
	run(t, func(t *testing.T, s *store, j *journal.Journal, n *notes) {
		s.set(errStore)
		a, b := &source{name: "a"}, &source{name: "b"}
		a.set(j, 1)
		j.After(n.note("1"))
		synctest.Wait()
		n.want(t, "1 broken")
		if err := j.Err(); !errors.Is(err, errStore) {
			t.Errorf("Err() = %v, want %v", err, errStore)
		}
		b.set(j, 2)
		a.set(j, 2)
		j.After(n.note("2"))
		n.want(t, "1 broken", "2 broken")
		time.Sleep(10 * time.Second)
		s.wantPuts(t)
		if a.stored != 0 {
			t.Errorf("Stored() although the store fails")
		}
		s.set(nil)
		time.Sleep(2 * time.Second)
		s.wantPuts(t, []string{"a=1"}, []string{"b=2", "a=2"})
		if err := j.Err(); err != nil {
			t.Errorf("Err() = %v after the store is back", err)
		}
		j.After(n.note("3"))
		n.want(t, "1 broken", "2 broken", "3")
	})
}

func TestHangingStore(t *testing.T) {
	run(t, func(t *testing.T, s *store, j *journal.Journal, _ *notes) {
		release := s.hold()
		a := &source{name: "a"}
		a.set(j, 1)
		if err := j.Wait(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait() = %v, want %v", err, context.DeadlineExceeded)
		}
		release()
		time.Sleep(2 * time.Second)
		s.wantPuts(t, []string{"a=1"})
	})
}

func TestClose(t *testing.T) {
	run(t, func(t *testing.T, s *store, j *journal.Journal, n *notes) {
		a := &source{name: "a"}
		a.set(j, 1)
		if err := j.Close(t.Context()); err != nil {
			t.Errorf("Close() = %v", err)
		}
		s.wantPuts(t, []string{"a=1"})
		j.After(n.note("nothing"))
		a.set(j, 2)
		j.After(n.note("late"))
		n.want(t, "nothing", "late journal: closed")
	})
}

func TestCloseGivesUp(t *testing.T) {
	run(t, func(t *testing.T, s *store, j *journal.Journal, n *notes) {
		defer s.hold()()
		a := &source{name: "a"}
		a.set(j, 1)
		j.After(n.note("1"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := j.Close(ctx); err == nil {
			t.Error("Close() = nil although the store hangs")
		}
		n.want(t, "1 context canceled")
	})
}

func TestNil(t *testing.T) {
	t.Parallel()
	var j *journal.Journal
	var n notes
	j.Touch(nil)
	j.Kick()
	j.Group(func() { n.note("group")(nil) })
	j.After(n.note("after"))
	n.want(t, "group", "after")
	if err := errors.Join(j.Err(), j.Wait(t.Context()), j.Close(t.Context())); err != nil {
		t.Error(err)
	}
}

// TestGroup changes two sources together while others keep the journal busy.
func TestGroup(t *testing.T) {
	t.Parallel()
	s := &store{}
	j := journal.New(journal.Options{Store: s})
	a, b, c := &source{name: "a"}, &source{name: "b"}, &source{name: "c"}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 3000 {
			j.Group(func() {
				a.set(j, i)
				b.set(j, i)
			})
		}
	})
	wg.Go(func() {
		for i := range 3000 {
			c.set(j, i)
			j.Kick()
		}
	})
	wg.Wait()
	if err := j.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := map[string]string{}
	for _, put := range s.puts {
		for _, it := range put {
			last[it[:1]] = it[2:]
		}
		if last["a"] != last["b"] {
			t.Fatalf("a = %s, b = %s: a commit has parted a group", last["a"], last["b"])
		}
	}
}
