package things_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/umbra-iot/umbra/internal/objects"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
	"github.com/umbra-iot/umbra/statestore/storetest"
	"github.com/umbra-iot/umbra/things"
)

// atMost is an option: so many shadows of a thing.
func atMost(n int) func(*things.Options) {
	return func(o *things.Options) { o.NamedShadows = n }
}

// named is a request for a named shadow of the lamp; "" is the classic one.
func named(op shadow.Op, name string) things.Request {
	r := things.Request{ID: shadow.ID{Thing: "lamp", Name: name}, Op: op}
	if op == shadow.OpUpdate {
		r.Payload = []byte(`{"state":{"reported":{"a":1}},"clientToken":"x"}`)
	}
	return r
}

// wantCode makes a request whose outcome has to have this code, 0 for accepted.
func wantCode(t *testing.T, s *things.Service, r things.Request, want int) {
	t.Helper()
	code := 0
	if res := do(t, s, r); res.Err != nil {
		code = res.Err.Code
	}
	if code != want {
		t.Errorf("%v of %q: code %d, want %d", r.Op, r.ID.Name, code, want)
	}
}

// acceptedAtLast makes a request until it is accepted.
func acceptedAtLast(t *testing.T, s *things.Service, r things.Request) {
	t.Helper()
	eventually(t, fmt.Sprintf("%v of %q accepted", r.Op, r.ID.Name), func() bool { return do(t, s, r).Err == nil })
}

// shadowsOf returns the names of the lamp's named shadows in the store.
func shadowsOf(t *testing.T, store statestore.Store) []string {
	t.Helper()
	infos, err := store.Shadows(t.Context(), "lamp", "", false, 1000)
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(infos))
	for i, in := range infos {
		names[i] = in.Shadow
	}
	return names
}

// A thing has as many named shadows as it may have, and the classic one. What would make one more is refused and stores nothing, all else goes on,
// and a delete makes room.
func TestNamedShadows(t *testing.T) {
	t.Parallel()
	store := memory(t)
	s, rec := service(t, store, atMost(2))
	for _, name := range []string{"a", "b", ""} {
		wantCode(t, s, named(shadow.OpUpdate, name), 0)
	}
	rec.take()
	r := do(t, s, named(shadow.OpUpdate, "c"))
	if r.Err == nil || r.Err.Code != 429 || r.Err.Message != "The thing has as many named shadows as it may have (2)" || r.Err.Token != `"x"` {
		t.Errorf("a fourth shadow: %+v", r.Err)
	}
	if diff := cmp.Diff([]sent{{topic + "name/c/update/rejected", 0}}, rec.take()); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
	records, err := store.Load(t.Context(), []statestore.Key{{Thing: "lamp", Shadow: "c"}})
	if err != nil || records[0].Version != 0 {
		t.Errorf("record of what was refused: %+v, %v", records, err)
	}

	wrong := named(shadow.OpUpdate, "c")
	wrong.Payload = []byte(`{"state":{},"version":7}`)
	wantCode(t, s, wrong, 409)
	built := named(shadow.OpUpdate, "c")
	built.Payload, built.Build = nil, func(*shadow.Document) ([]byte, *shadow.Error) { return []byte(`{"state":{}}`), nil }
	wantCode(t, s, built, 429)
	wantCode(t, s, named(shadow.OpGet, "c"), 404)
	wantCode(t, s, named(shadow.OpDelete, "c"), 404)
	wantCode(t, s, named(shadow.OpUpdate, "a"), 0)
	wantCode(t, s, named(shadow.OpGet, "a"), 0)
	other := named(shadow.OpUpdate, "c")
	other.ID.Thing = "door"
	wantCode(t, s, other, 0)

	wantCode(t, s, named(shadow.OpDelete, "a"), 0)
	wantCode(t, s, named(shadow.OpUpdate, "c"), 0)
	wantCode(t, s, named(shadow.OpUpdate, "a"), 429) // which was there before
	wantCode(t, s, named(shadow.OpDelete, "c"), 0)
	wantCode(t, s, named(shadow.OpUpdate, "a"), 0)

	again, _ := service(t, store, atMost(2))
	wantCode(t, again, named(shadow.OpUpdate, "c"), 429)
	unbounded, _ := service(t, store, nil)
	wantCode(t, unbounded, named(shadow.OpUpdate, "c"), 0)
}

// Requests that wait for each other have their places in their order: a shadow that is deleted and made anew keeps its own.
func TestNamedShadowsInABatch(t *testing.T) {
	t.Parallel()
	store := storetest.NewFaulty(memory(t))
	s, _ := service(t, store, func(o *things.Options) { o.NamedShadows, o.Workers = 2, 1 })
	wantCode(t, s, named(shadow.OpUpdate, "a"), 0)
	release := store.Hold()
	codes := make(chan int, 5)
	submit := func(r things.Request) {
		s.Submit(r, func(res *things.Result) {
			code := 0
			if res.Err != nil {
				code = res.Err.Code
			}
			codes <- code
		})
	}
	submit(named(shadow.OpUpdate, "a"))
	eventually(t, "a commit at the gate", func() bool { return store.Held() == 1 })
	submit(named(shadow.OpDelete, "a"))
	submit(named(shadow.OpUpdate, "a"))
	submit(named(shadow.OpUpdate, "b"))
	submit(named(shadow.OpUpdate, "c"))
	release()
	got := map[int]int{}
	for range 5 {
		got[<-codes]++
	}
	if diff := cmp.Diff(map[int]int{0: 4, 429: 1}, got); diff != "" {
		t.Errorf("codes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a", "b"}, shadowsOf(t, store)); diff != "" {
		t.Errorf("shadows (-want +got):\n%s", diff)
	}
}

// The place of a shadow whose commit is under way is taken.
func TestLastPlaceIsTakenOnce(t *testing.T) {
	t.Parallel()
	store := storetest.NewFaulty(memory(t))
	s, _ := service(t, store, atMost(1))
	release := store.Hold()
	first := make(chan *things.Result, 1)
	s.Submit(named(shadow.OpUpdate, "a"), func(r *things.Result) { first <- r })
	eventually(t, "a commit at the gate", func() bool { return store.Held() == 1 })
	wantCode(t, s, named(shadow.OpUpdate, "b"), 429)
	release()
	if r := <-first; r.Err != nil {
		t.Error(r.Err)
	}
	wantCode(t, s, named(shadow.OpDelete, "a"), 0)

	release = store.Hold()
	s.Submit(named(shadow.OpUpdate, "a"), func(r *things.Result) { first <- r })
	eventually(t, "a commit at the gate", func() bool { return store.Held() == 1 })
	store.FailBefore(1, errDisk)
	release()
	if r := <-first; r.Err == nil || r.Err.Code != 500 {
		t.Errorf("with a failing store: %+v", r.Err)
	}
	acceptedAtLast(t, s, named(shadow.OpUpdate, "b"))
	wantCode(t, s, named(shadow.OpUpdate, "a"), 429)
}

// Whoever makes and deletes shadows at the same time, on a store that fails now and then and does not tell what it has
// done: never are there too many, and the count is right afterwards.
func TestNamedShadowsUnderLoad(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"own store", "shared store"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			const limit, names, workers, n = 8, 24, 12, 150
			faulty := storetest.NewFaulty(memory(t))
			var store statestore.Store = faulty
			if kind == "shared store" {
				store = shared{faulty}
			}
			var looks atomic.Int64 // at a clock that makes each count old at once
			clock := func() time.Time { return time.UnixMilli(1_700_000_000_000 + 2000*looks.Add(1)) }
			s, _ := service(t, store, func(o *things.Options) { o.NamedShadows, o.Workers, o.Now = limit, 8, clock })
			var wg sync.WaitGroup
			for w := range workers {
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(w), 1))
					for range n {
						name := fmt.Sprintf("s%02d", rnd.IntN(names))
						switch rnd.IntN(12) {
						case 0:
							faulty.FailBefore(1, errDisk)
						case 1:
							faulty.FailAfter(1, errDisk)
						}
						do(t, s, named([]shadow.Op{shadow.OpUpdate, shadow.OpDelete}[rnd.IntN(2)], name))
						if there := shadowsOf(t, faulty); len(there) > limit {
							t.Errorf("%d shadows, want at most %d: %q", len(there), limit, there)
							return
						}
					}
				})
			}
			wg.Wait()
			faulty.FailBefore(0, nil)
			faulty.FailAfter(0, nil)
			for _, name := range shadowsOf(t, faulty) {
				acceptedAtLast(t, s, named(shadow.OpDelete, name))
			}
			for i := range limit {
				acceptedAtLast(t, s, named(shadow.OpUpdate, fmt.Sprintf("new%d", i)))
			}
			wantCode(t, s, named(shadow.OpUpdate, "more"), 429)
		})
	}
}

// unlisted is a store that does not list shadows while it is told so.
type unlisted struct {
	statestore.Store
	fails atomic.Bool
}

func (u *unlisted) Shadows(ctx context.Context, thing, after string, first bool, limit int) ([]statestore.Info, error) {
	if u.fails.Load() {
		return nil, errDisk
	}
	return u.Store.Shadows(ctx, thing, after, first, limit)
}

// Where the shadows cannot be counted none is made, and those that are there are updated and deleted.
func TestShadowsThatCannotBeCounted(t *testing.T) {
	t.Parallel()
	store := &unlisted{Store: memory(t)}
	s, _ := service(t, store, nil)
	wantCode(t, s, named(shadow.OpUpdate, "a"), 0)
	wantCode(t, s, named(shadow.OpUpdate, "b"), 0)
	bounded, _ := service(t, store, atMost(2))
	store.fails.Store(true)
	wantCode(t, bounded, named(shadow.OpUpdate, "c"), 500)
	wantCode(t, bounded, named(shadow.OpUpdate, "a"), 0)
	wantCode(t, bounded, named(shadow.OpDelete, "a"), 0)
	wantCode(t, bounded, named(shadow.OpUpdate, "c"), 500)
	store.fails.Store(false)
	wantCode(t, bounded, named(shadow.OpUpdate, "c"), 0)
	wantCode(t, bounded, named(shadow.OpUpdate, "a"), 429)
}

// What a commit with an unknown outcome has made or deleted is counted as it is.
func TestUnknownOutcomeIsCounted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		op   shadow.Op
		done bool
		then string // a shadow that there is room for
		full string // and then one more
	}{
		{"made after all", shadow.OpUpdate, true, "a", "c"},
		{"not made", shadow.OpUpdate, false, "c", "b"},
		{"deleted after all", shadow.OpDelete, true, "c", "d"},
		{"not deleted", shadow.OpDelete, false, "a", "c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			store := storetest.NewFaulty(memory(t))
			s, _ := service(t, store, atMost(2))
			wantCode(t, s, named(shadow.OpUpdate, "a"), 0)
			if tt.op == shadow.OpDelete {
				wantCode(t, s, named(shadow.OpUpdate, "b"), 0)
			}
			if tt.done {
				store.FailAfter(1, errDisk)
			} else {
				store.FailBefore(1, errDisk)
			}
			wantCode(t, s, named(tt.op, "b"), 500)
			acceptedAtLast(t, s, named(shadow.OpUpdate, tt.then))
			wantCode(t, s, named(shadow.OpUpdate, tt.full), 429)
		})
	}
}

// A commit that nobody knows the outcome of keeps its place until that is known: it may be done later.
func TestLateCommitHasItsPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // in which no second look is taken before something is waited for
		store := storetest.NewFaulty(memory(t))
		s, _ := service(t, store, atMost(1))
		var late func() []error
		store.Intercept(func(commit func() []error) []error {
			late = commit
			return []error{errDisk}
		})
		wantCode(t, s, named(shadow.OpUpdate, "a"), 500)
		wantCode(t, s, named(shadow.OpUpdate, "b"), 429)
		if errs := late(); errs != nil {
			t.Error(errs)
		}
		wantCode(t, s, named(shadow.OpUpdate, "a"), 0)
		wantCode(t, s, named(shadow.OpUpdate, "b"), 429)
		wantCode(t, s, named(shadow.OpDelete, "a"), 0)
		wantCode(t, s, named(shadow.OpUpdate, "b"), 0)
	})
}

// What loses a race against another process, and then finds the store gone, gives its place back.
func TestConflictGivesItsPlaceBack(t *testing.T) {
	t.Parallel()
	store := storetest.NewFaulty(memory(t))
	s, _ := service(t, store, atMost(1))
	store.Intercept(func(func() []error) []error {
		store.SetDown(errDisk)
		return []error{statestore.ErrConflict}
	})
	wantCode(t, s, named(shadow.OpUpdate, "a"), 500)
	store.SetDown(nil)
	wantCode(t, s, named(shadow.OpUpdate, "b"), 0)
}

// slowList is a store in which something happens between a list of shadows and its answer, once.
type slowList struct {
	statestore.Store
	meanwhile atomic.Pointer[func()]
}

func (l *slowList) Shadows(ctx context.Context, thing, after string, first bool, limit int) ([]statestore.Info, error) {
	infos, err := l.Store.Shadows(ctx, thing, after, first, limit)
	if fn := l.meanwhile.Swap(nil); fn != nil {
		(*fn)()
	}
	return infos, err
}

// A list that is out of date when it comes is not counted.
func TestDeletedWhileCounted(t *testing.T) {
	t.Parallel()
	store := &slowList{Store: memory(t)}
	before, _ := service(t, store, nil)
	wantCode(t, before, named(shadow.OpUpdate, "a"), 0)
	wantCode(t, before, named(shadow.OpUpdate, "b"), 0)
	s, _ := service(t, store, func(o *things.Options) { o.NamedShadows, o.Workers = 2, 2 })
	remove := func() { wantCode(t, s, named(shadow.OpDelete, "b"), 0) }
	store.meanwhile.Store(&remove)
	wantCode(t, s, named(shadow.OpUpdate, "c"), 0)
	wantCode(t, s, named(shadow.OpUpdate, "d"), 429)
}

// remote is a store that takes its time to list shadows.
type remote struct{ statestore.Store }

func (r remote) Shadows(ctx context.Context, thing, after string, first bool, limit int) ([]statestore.Info, error) {
	select {
	case <-time.After(100 * time.Millisecond):
		return r.Store.Shadows(ctx, thing, after, first, limit)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A fleet that makes its shadows for the first time is not refused because counting takes its time.
func TestFleetIsCountedInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := service(t, remote{memory(t)}, func(o *things.Options) { o.NamedShadows, o.Workers = 10, 1 })
		var wg sync.WaitGroup
		for i := range 400 {
			wg.Add(1)
			r := named(shadow.OpUpdate, "a")
			r.ID.Thing = fmt.Sprintf("t%d", i)
			s.Submit(r, func(r *things.Result) {
				if r.Err != nil {
					t.Error(r.Err)
				}
				wg.Done()
			})
		}
		wg.Wait()
	})
}

// Of two services on one store each knows within a second what the other one has made and deleted.
func TestNamedShadowsOfTwoServices(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	now.Store(1_700_000_000_000)
	store := shared{memory(t)}
	limit := func(o *things.Options) {
		o.NamedShadows, o.Now = 2, func() time.Time { return time.UnixMilli(now.Load()) }
	}
	a, _ := service(t, store, limit)
	b, _ := service(t, store, limit)
	wantCode(t, a, named(shadow.OpUpdate, "1"), 0)
	wantCode(t, b, named(shadow.OpUpdate, "2"), 0)
	now.Add(time.Second.Milliseconds())
	wantCode(t, a, named(shadow.OpUpdate, "3"), 429)
	wantCode(t, b, named(shadow.OpUpdate, "2"), 0)
	wantCode(t, b, named(shadow.OpDelete, "1"), 0)
	wantCode(t, b, named(shadow.OpUpdate, "3"), 0)
	wantCode(t, b, named(shadow.OpDelete, "2"), 0)
	now.Add(time.Second.Milliseconds())
	wantCode(t, a, named(shadow.OpUpdate, "1"), 0)
	wantCode(t, a, named(shadow.OpUpdate, "2"), 429)
}

// A limit below what is there lets all of it be, and makes room only when enough is deleted.
func TestNamedShadowsAboveALowerLimit(t *testing.T) {
	t.Parallel()
	store := memory(t)
	s, _ := service(t, store, nil)
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		wantCode(t, s, named(shadow.OpUpdate, name), 0)
	}
	lower, _ := service(t, store, atMost(2))
	for _, name := range []string{"a", "b", "c", "d"} {
		wantCode(t, lower, named(shadow.OpUpdate, "f"), 429)
		wantCode(t, lower, named(shadow.OpUpdate, name), 0)
		wantCode(t, lower, named(shadow.OpDelete, name), 0)
	}
	wantCode(t, lower, named(shadow.OpUpdate, "f"), 0)
	wantCode(t, lower, named(shadow.OpUpdate, "g"), 429)
}

// Objects of operators are in the same store, and no shadows of anything.
func TestObjectsAreNotCounted(t *testing.T) {
	t.Parallel()
	store := memstore.New(statestore.Options{})
	s, _ := service(t, store, atMost(1))
	configured := objects.New(objects.Options{Objects: store})
	for i := range 3 {
		o := objects.Object{Kind: "policy", Name: fmt.Sprintf("p%d", i), Body: []byte(`{}`)}
		if _, err := configured.Put(t.Context(), o, objects.Any, ""); err != nil {
			t.Error(err)
		}
	}
	wantCode(t, s, named(shadow.OpUpdate, "a"), 0)
}

// Only who makes a shadow has the store list them, and once.
func TestUpdatesCountNothing(t *testing.T) {
	t.Parallel()
	store := &unlisted{Store: memory(t)}
	s, _ := service(t, store, atMost(10))
	wantCode(t, s, named(shadow.OpUpdate, "a"), 0)
	store.fails.Store(true)
	for range 10 {
		wantCode(t, s, named(shadow.OpUpdate, "a"), 0)
	}
	for i := range 9 {
		wantCode(t, s, named(shadow.OpUpdate, fmt.Sprint(i)), 0)
	}
	wantCode(t, s, named(shadow.OpUpdate, "z"), 429)
}
