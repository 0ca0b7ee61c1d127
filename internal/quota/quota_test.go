package quota

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestTakeAndGive(t *testing.T) {
	t.Parallel()
	var b Book
	steps := []struct {
		owner string
		give  bool
		n     int
		want  bool
	}{
		{owner: "user:a", n: 2, want: true},
		{owner: "user:a", n: 2, want: false}, // would be 4 of 3
		{owner: "user:a", n: 1, want: true},
		{owner: "user:b", n: 4, want: false},
		{owner: "user:b", n: 3, want: true},
		{owner: "user:a", give: true, n: 1},
		{owner: "user:a", n: 1, want: true},
		{owner: "", n: 100, want: true}, // nobody in particular
		{owner: "user:a", give: true, n: 3},
		{owner: "user:b", give: true, n: 3},
		{owner: "user:c", give: true, n: 1}, // has nothing
	}
	for i, s := range steps {
		if s.give {
			b.Give(s.owner, Sessions, s.n)
		} else if got := b.Take(s.owner, Sessions, s.n, 3); got != s.want {
			t.Errorf("step %d: %+v: Take = %v", i, s, got)
		}
	}
	if len(b.accounts) != 0 {
		t.Errorf("%d accounts are left of those who have nothing", len(b.accounts))
	}
	if !b.Take("user:a", Sessions, 100, 0) || !b.Take("user:a", Connections, 3, 3) {
		t.Error("what has no bound is refused, or one resource counts as another")
	}
}

func TestSpend(t *testing.T) {
	t.Parallel()
	var b Book
	now := time.Unix(1_800_000_000, 0)
	cost := Cost(1, 10)
	wait := func(owner string, f Flow, after time.Duration) time.Duration {
		w, ok := b.Spend(owner, f, cost, Forever, now.Add(after))
		if !ok {
			t.Error("refused, whatever the patience")
		}
		return w
	}
	for i := range 10 {
		if w := wait("user:a", Messages, 0); w > 0 {
			t.Fatalf("message %d of a second's worth has to wait %v", i, w)
		}
	}
	if w := wait("user:a", Messages, 0); w != cost {
		t.Errorf("the first one above has to wait %v, want %v", w, cost)
	}
	if w := wait("user:a", Messages, 0); w != 2*cost {
		t.Errorf("the second one above has to wait %v, want %v", w, 2*cost)
	}
	if w := wait("user:b", Messages, 0); w > 0 {
		t.Errorf("somebody else has to wait %v", w)
	}
	if w := wait("user:a", Connects, 0); w > 0 {
		t.Errorf("another flow has to wait %v", w)
	}
	if w := wait("user:a", Messages, time.Second); w > 0 {
		t.Errorf("a second later it has to wait %v", w)
	}
	if cost = Cost(1000, 0); wait("user:a", Messages, 0) > 0 {
		t.Error("what has no bound has to wait")
	}
	if cost = time.Hour; wait("", Messages, 0) > 0 {
		t.Error("nobody in particular has to wait")
	}
}

// TestWhatIsRefusedDoesNotCount: who is refused and comes again at once is let in as soon as if he had not.
func TestWhatIsRefusedDoesNotCount(t *testing.T) {
	t.Parallel()
	var b Book
	now := time.Unix(1_800_000_000, 0)
	for range 5 {
		b.Spend("user:a", Requests, Cost(1, 5), 0, now)
	}
	for range 100 {
		if wait, ok := b.Spend("user:a", Requests, Cost(1, 5), 199*time.Millisecond, now); ok || wait != 200*time.Millisecond {
			t.Fatalf("one above has to wait %v, %v", wait, ok)
		}
	}
	if _, ok := b.Spend("user:a", Requests, Cost(1, 5), 0, now.Add(200*time.Millisecond)); !ok {
		t.Error("when its time has come it is refused")
	}
}

// TestAccountsAreForgotten: those who were here once leave nothing behind, whoever has something stays.
func TestAccountsAreForgotten(t *testing.T) {
	t.Parallel()
	var b Book
	now := time.Unix(1_800_000_000, 0)
	b.Take("user:stays", Sessions, 1, 0)
	for i := range 100 * sweepMin {
		now = now.Add(time.Millisecond)
		b.Spend(fmt.Sprint("user:", i), Requests, Cost(1, 100), 0, now)
	}
	if n := len(b.accounts); n > 4*sweepMin {
		t.Errorf("%d accounts are left", n)
	}
	if b.Take("user:stays", Sessions, 1, 1) {
		t.Error("an account of somebody who has something was forgotten")
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	var (
		b  Book
		wg sync.WaitGroup
	)
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if b.Take("user:a", Connections, 1, 4) {
					b.Spend("user:a", Messages, time.Nanosecond, Forever, time.Now())
					b.Give("user:a", Connections, 1)
				}
			}
		})
	}
	wg.Wait()
	if !b.Take("user:a", Connections, 4, 4) {
		t.Error("something was not given back")
	}
}
