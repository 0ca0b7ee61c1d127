package things_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
	"github.com/umbra-iot/umbra/statestore/storetest"
	"github.com/umbra-iot/umbra/things"
)

var errDisk = errors.New("disk on fire")

// eventually polls until ok, and fails the test after ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for tick := time.NewTicker(2 * time.Millisecond); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not seen in time: %s", what)
		}
	}
}

// A store failure refuses the request with 500, changes nothing, and what comes after it works.
func TestStoreFails(t *testing.T) {
	t.Parallel()
	store := storetest.NewFaulty(memory(t))
	s, rec := service(t, store, nil)
	do(t, s, update(`{"state":{"reported":{"a":1}}}`))
	rec.take()

	store.FailBefore(1, errDisk)
	r := do(t, s, update(`{"state":{"reported":{"a":2}},"clientToken":"x"}`))
	if r.Err == nil || r.Err.Code != 500 {
		t.Fatalf("result with a failing store: %+v", r)
	}
	if diff := cmp.Diff([]sent{{topic + "update/rejected", 0}}, rec.take()); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
	if r := do(t, s, update(`{"state":{"reported":{"b":1}}}`)); r.Version != 2 {
		t.Errorf("version after the failure = %d, want 2", r.Version)
	}
	d, err := s.Document(t.Context(), lamp)
	if err != nil || string(d.State()) != `{"reported":{"a":1,"b":1}}` {
		t.Errorf("document after the failure = %s, %v", d.State(), err)
	}
}

// While the store is down every request that needs it is refused with 500, and
// one that is wrong in itself with its own code.
func TestStoreDown(t *testing.T) {
	t.Parallel()
	store := storetest.NewFaulty(memory(t))
	s, _ := service(t, store, nil)
	store.SetDown(errDisk)
	for payload, want := range map[string]int{`{"state":{}}`: 500, `{"state":7}`: 400} {
		if r := do(t, s, update(payload)); r.Err == nil || r.Err.Code != want {
			t.Errorf("update %s with the store down: %+v, want code %d", payload, r.Err, want)
		}
	}
	if err := s.Ready(t.Context()); err == nil {
		t.Error("Ready with the store down: no error")
	}
	store.SetDown(nil)
	if r := do(t, s, update(`{"state":{}}`)); r.Version != 1 {
		t.Errorf("version after the store is back = %d, want 1", r.Version)
	}
}

// A commit whose answer was lost may be stored. Its requester is told 500, and
// its messages go out all the same once the store answers: no version without its delta.
func TestUnknownOutcomeIsAnnounced(t *testing.T) {
	t.Parallel()
	store := storetest.NewFaulty(memory(t))
	s, rec := service(t, store, nil)
	do(t, s, update(`{"state":{"desired":{"a":1}}}`))
	rec.take()

	store.FailAfter(1, errDisk)
	if r := do(t, s, update(`{"state":{"desired":{"a":2}}}`)); r.Err == nil || r.Err.Code != 500 {
		t.Fatalf("result = %+v, want 500", r)
	}
	want := []sent{{topic + "update/accepted", 2}, {topic + "update/delta", 2}, {topic + "update/documents", 2}}
	var got []sent
	eventually(t, "messages of version 2", func() bool {
		got = append(got, rec.take()...)
		return len(got) >= len(want)+1
	})
	if diff := cmp.Diff(append([]sent{{topic + "update/rejected", 0}}, want...), got); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
	eventually(t, "the outbox to be empty", func() bool { return len(marksOf(t, store)) == 0 })
}

func marksOf(t *testing.T, store statestore.Store) []statestore.Mark {
	t.Helper()
	var marks []statestore.Mark
	err := store.Unannounced(t.Context(), func(m statestore.Mark) error {
		marks = append(marks, m)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return marks
}

// crashing stands for a process that dies between commit and announcement: it hands nothing on.
type crashing struct{ statestore.Store }

func (crashing) Announced(context.Context, []statestore.Mark) error { return nil }

// What was committed and not announced before a crash is announced by Start,
// with the very messages that the lost ones would have been.
func TestReplay(t *testing.T) {
	t.Parallel()
	base := memory(t)
	before, recBefore := service(t, crashing{base}, nil)
	reqs := []things.Request{
		update(`{"state":{"desired":{"a":1,"l":[1,2]},"reported":{"a":1}},"clientToken":"t1"}`),
		update(`{"state":{"desired":{"a":{"b":null,"c":2},"l":null},"reported":{"z":0}}}`),
		update(`{"state":{"reported":null},"clientToken":"t3"}`),
		{ID: lamp, Op: shadow.OpDelete},
		update(`{"state":{"desired":{"again":true}}}`),
	}
	for _, r := range reqs {
		if res := do(t, before, r); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	want := recBefore.take()

	_, rec := service(t, base, nil)
	if diff := cmp.Diff(want, rec.take()); diff != "" {
		t.Errorf("messages of the replay (-first time +replay):\n%s", diff)
	}
	if diff := cmp.Diff(decoded(recBefore.body), decoded(rec.body)); diff != "" {
		t.Errorf("payloads of the replay (-first time +replay):\n%s", diff)
	}
	if marks := marksOf(t, base); len(marks) != 0 {
		t.Errorf("outbox after the replay = %v, want it empty", marks)
	}
}

// shared is a store that several processes write to.
type shared struct{ statestore.Store }

func (shared) Shared() bool { return true }

// Two services on one store lose no update, never give a version twice, and
// never answer from a document that the other one has changed.
func TestTwoServices(t *testing.T) {
	t.Parallel()
	store := shared{memory(t)}
	a, _ := service(t, store, nil)
	b, _ := service(t, store, nil)
	const shadows, writers, n = 10, 6, 60
	var mu sync.Mutex
	versions := map[shadow.ID][]uint64{}
	var wg sync.WaitGroup
	for w := range writers {
		s := []*things.Service{a, b}[w%2]
		wg.Go(func() {
			for i := range n {
				id := shadow.ID{Thing: fmt.Sprintf("t%d", i%shadows)}
				r := do(t, s, things.Request{ID: id, Op: shadow.OpUpdate, Payload: fmt.Appendf(nil, `{"state":{"reported":{"w%d":%d}}}`, w, i)})
				if r.Err != nil {
					t.Error(r.Err)
					return
				}
				mu.Lock()
				versions[id] = append(versions[id], r.Version)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for id, vs := range versions {
		slices.Sort(vs)
		for i, v := range vs {
			if v != uint64(i+1) {
				t.Fatalf("%s: versions %v, want each once from 1 on", id, vs)
			}
		}
	}
}

// The other service deletes the shadow that this one has in memory, and makes it anew when the tombstone is gone.
func TestSharedShadowBeginsAgain(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	now.Store(1_700_000_000_000)
	clock := func() time.Time { return time.UnixMilli(now.Load()) }
	store := shared{memstore.New(statestore.Options{Now: clock})}
	short := func(o *things.Options) { o.Now, o.TombstoneAge = clock, time.Minute }
	a, _ := service(t, store, short)
	b, _ := service(t, store, short)
	do(t, a, update(`{"state":{"desired":{"old":1}}}`))
	do(t, b, things.Request{ID: lamp, Op: shadow.OpDelete})
	now.Add(2 * time.Minute.Milliseconds())
	do(t, b, update(`{"state":{"desired":{"new":1}}}`))
	if r := do(t, a, update(`{"state":{"desired":{"more":1}}}`)); r.Version != 2 {
		t.Errorf("version = %d, want 2", r.Version)
	}
	r := do(t, a, things.Request{ID: lamp, Op: shadow.OpGet})
	if body := string(r.Body()); !strings.Contains(body, `"new"`) || strings.Contains(body, `"old"`) {
		t.Errorf("document = %s, want what was made anew, and more", body)
	}
}

func TestSharedStoreIsNotAnsweredFromMemory(t *testing.T) {
	t.Parallel()
	store := shared{memory(t)}
	a, _ := service(t, store, nil)
	b, _ := service(t, store, nil)
	do(t, a, update(`{"state":{"desired":{"a":1}}}`))
	do(t, b, update(`{"state":{"desired":{"a":2}}}`))
	// a has version 1 in memory; the store has 2.
	if d, err := a.Document(t.Context(), lamp); err != nil || d.Version() != 2 {
		t.Errorf("Document = version %d, %v, want 2", d.Version(), err)
	}
	do(t, b, update(`{"state":{"desired":{"a":3}}}`))
	if r := do(t, a, update(`{"state":{"desired":{"b":1}},"version":3}`)); r.Err != nil || r.Version != 4 {
		t.Errorf("update that insists on the version of the other process: %+v, %v", r, r.Err)
	}
	do(t, b, things.Request{ID: lamp, Op: shadow.OpDelete})
	if r := do(t, a, things.Request{ID: lamp, Op: shadow.OpGet}); r.Err == nil || r.Err.Code != 404 {
		t.Errorf("get after a delete by the other process: %+v", r)
	}
}

// While a commit is under way, what arrives for other shadows forms the next batches, and what
// arrives for the same shadow waits and is then committed together.
func TestBatches(t *testing.T) {
	t.Parallel()
	store := storetest.NewFaulty(memory(t))
	s, _ := service(t, store, func(o *things.Options) { o.Workers = 1 })
	release := store.Hold()
	var wg sync.WaitGroup
	submit := func(id shadow.ID, i int) {
		wg.Add(1)
		s.Submit(things.Request{ID: id, Op: shadow.OpUpdate, Payload: fmt.Appendf(nil, `{"state":{"reported":{"n":%d}}}`, i)}, func(r *things.Result) {
			if r.Err != nil {
				t.Error(r.Err)
			}
			wg.Done()
		})
	}
	submit(lamp, 0)
	eventually(t, "a commit at the gate", func() bool { return store.Held() == 1 })
	for i := range 100 {
		submit(lamp, i)
		submit(shadow.ID{Thing: fmt.Sprintf("t%d", i)}, i)
	}
	release()
	wg.Wait()
	if n := s.Stats().Commits; n > 4 {
		t.Errorf("%d commits for 201 requests, want at most 4", n)
	}
	if d, err := s.Document(t.Context(), lamp); err != nil || d.Version() != 101 {
		t.Errorf("version = %d, %v, want 101", d.Version(), err)
	}
}

func decoded(bodies map[sent]string) map[sent]any {
	out := map[sent]any{}
	for k, body := range bodies {
		var v any
		if err := json.Unmarshal([]byte(body), &v); err != nil {
			v = body
		}
		out[k] = v
	}
	return out
}
