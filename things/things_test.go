package things_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
	"github.com/umbra-iot/umbra/things"
)

// sent is a published message in a form that is easy to compare.
type sent struct {
	Topic   string
	Version uint64
}

// recorder is a Publisher that remembers what it was given.
type recorder struct {
	mu   sync.Mutex
	sent []sent
	body map[sent]string
}

func (r *recorder) Flush(context.Context) error { return nil }

func (r *recorder) Publish(m *things.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := sent{m.Topic, m.Version}
	r.sent = append(r.sent, s)
	if r.body == nil {
		r.body = map[sent]string{}
	}
	r.body[s] = string(m.Payload())
}

func (r *recorder) take() []sent {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.sent
	r.sent = nil
	return out
}

// service returns a started service on store.
func service(t *testing.T, store statestore.Store, change func(*things.Options)) (*things.Service, *recorder) {
	t.Helper()
	rec := &recorder{}
	o := things.Options{Store: store, Publisher: rec}
	if change != nil {
		change(&o)
	}
	s := things.New(o)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s, rec
}

func memory(t *testing.T) statestore.Store {
	t.Helper()
	store := memstore.New(statestore.Options{})
	t.Cleanup(func() { store.Close() })
	return store
}

var lamp = shadow.ID{Thing: "lamp"}

func update(payload string) things.Request {
	return things.Request{ID: lamp, Op: shadow.OpUpdate, Payload: []byte(payload), Author: shadow.Author{Channel: "mqtt", ClientID: "c1"}}
}

func do(t *testing.T, s *things.Service, r things.Request) *things.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return s.Do(ctx, r)
}

const topic = "$aws/things/lamp/shadow/"

func TestMessages(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		reqs []things.Request
		want []sent
		code int // of the last request
	}{
		{
			name: "reported has no delta",
			reqs: []things.Request{update(`{"state":{"reported":{"on":true}}}`)},
			want: []sent{{topic + "update/accepted", 1}, {topic + "update/documents", 1}},
		},
		{
			name: "desired leaves a delta",
			reqs: []things.Request{update(`{"state":{"desired":{"on":true}}}`)},
			want: []sent{{topic + "update/accepted", 1}, {topic + "update/delta", 1}, {topic + "update/documents", 1}},
		},
		{
			name: "refused",
			reqs: []things.Request{update(`{"state":7}`)},
			want: []sent{{topic + "update/rejected", 0}},
			code: 400,
		},
		{
			name: "refused quietly",
			reqs: []things.Request{{ID: lamp, Op: shadow.OpUpdate, Payload: []byte(`{"state":7}`), Quiet: true}},
			code: 400,
		},
		{
			name: "get of nothing",
			reqs: []things.Request{{ID: lamp, Op: shadow.OpGet}},
			want: []sent{{topic + "get/rejected", 0}},
			code: 404,
		},
		{
			name: "delete tells the version that was deleted",
			reqs: []things.Request{update(`{"state":{"desired":{"on":true}}}`), {ID: lamp, Op: shadow.OpDelete}},
			want: []sent{
				{topic + "update/accepted", 1},
				{topic + "update/delta", 1},
				{topic + "update/documents", 1},
				{topic + "delete/accepted", 1},
			},
		},
		{
			name: "condition on the version is not met",
			reqs: []things.Request{{ID: lamp, Op: shadow.OpUpdate, Payload: []byte(`{"state":{}}`), If: func(v uint64) bool { return v == 4 }}},
			want: []sent{{topic + "update/rejected", 0}},
			code: 412,
		},
		{
			name: "bad name",
			reqs: []things.Request{{ID: shadow.ID{Thing: "a b"}, Op: shadow.OpGet}},
			code: 400,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, rec := service(t, memory(t), nil)
			var last *things.Result
			for _, r := range tt.reqs {
				last = do(t, s, r)
			}
			code := 0
			if last.Err != nil {
				code = last.Err.Code
			}
			if code != tt.code {
				t.Errorf("code = %d, want %d", code, tt.code)
			}
			if !json.Valid(last.Body()) {
				t.Errorf("Body() = %q, not JSON", last.Body())
			}
			if diff := cmp.Diff(tt.want, rec.take()); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
		})
	}
}

// Requests for one shadow are done in the order of Submit, and each accepted one has the next version.
func TestOrderPerShadow(t *testing.T) {
	t.Parallel()
	store := memory(t)
	s, rec := service(t, store, nil)
	const things1, n = 20, 200
	var wg sync.WaitGroup
	for i := range things1 {
		id := shadow.ID{Thing: fmt.Sprintf("t%d", i)}
		wg.Go(func() {
			var done sync.WaitGroup
			var mu sync.Mutex
			var versions []uint64
			for k := range n {
				done.Add(1)
				s.Submit(things.Request{ID: id, Op: shadow.OpUpdate, Payload: fmt.Appendf(nil, `{"state":{"reported":{"n":%d}}}`, k)}, func(r *things.Result) {
					mu.Lock()
					defer mu.Unlock()
					versions = append(versions, r.Version)
					done.Done()
				})
			}
			done.Wait()
			for k, v := range versions {
				if v != uint64(k+1) {
					t.Errorf("request %d of %s: version %d, want %d", k, id, v, k+1)
					return
				}
			}
		})
	}
	wg.Wait()
	last := map[string]uint64{}
	for _, m := range rec.take() {
		if m.Version <= last[m.Topic] {
			t.Fatalf("%s: version %d after %d", m.Topic, m.Version, last[m.Topic])
		}
		last[m.Topic] = m.Version
	}
	if len(last) != 2*things1 {
		t.Errorf("messages on %d topics, want %d", len(last), 2*things1)
	}
	eventually(t, "an empty outbox", func() bool { return len(marksOf(t, store)) == 0 })
}

func TestDocument(t *testing.T) {
	t.Parallel()
	s, _ := service(t, memory(t), nil)
	if d, err := s.Document(t.Context(), lamp); d != nil || err != nil {
		t.Errorf("Document of nothing = %v, %v", d, err)
	}
	do(t, s, update(`{"state":{"desired":{"on":true}}}`))
	if d, err := s.Document(t.Context(), lamp); d.Version() != 1 || err != nil {
		t.Errorf("Document = version %d, %v", d.Version(), err)
	}
	do(t, s, things.Request{ID: lamp, Op: shadow.OpDelete})
	if d, err := s.Document(t.Context(), lamp); d != nil || err != nil {
		t.Errorf("Document of a deleted shadow = %v, %v", d, err)
	}
	if _, err := s.Document(t.Context(), shadow.ID{Thing: "a b"}); err == nil {
		t.Error("Document of a bad name: no error")
	}
}

func TestAnnounceDelta(t *testing.T) {
	t.Parallel()
	s, _ := service(t, memory(t), nil)
	current := func() *things.Message {
		ch := make(chan *things.Message, 1)
		s.AnnounceDelta(lamp, func(m *things.Message) { ch <- m })
		return <-ch
	}
	if m := current(); m != nil {
		t.Errorf("delta of nothing: %s", m.Payload())
	}
	do(t, s, update(`{"state":{"desired":{"on":true}}}`))
	if m := current(); m == nil || m.Version != 1 || m.Topic != topic+"update/delta" {
		t.Errorf("delta = %+v, want version 1", m)
	}
	do(t, s, update(`{"state":{"reported":{"on":true}}}`))
	if m := current(); m != nil {
		t.Errorf("delta in sync: %s", m.Payload())
	}
}

// A delta that is asked for before an update is told as it was then, although both are done in one batch:
// the update announces its own.
func TestAnnounceDeltaBeforeUpdate(t *testing.T) {
	t.Parallel()
	s, _ := service(t, memory(t), nil)
	for i := range 100 {
		id := shadow.ID{Thing: fmt.Sprintf("lamp-%d", i)}
		asked, done := make(chan *things.Message, 1), make(chan *things.Result, 1)
		s.AnnounceDelta(id, func(m *things.Message) { asked <- m })
		s.Submit(things.Request{ID: id, Op: shadow.OpUpdate, Payload: []byte(`{"state":{"desired":{"on":true}}}`)},
			func(r *things.Result) { done <- r })
		if r := <-done; r.Err != nil {
			t.Fatal(r.Err)
		}
		if m := <-asked; m != nil {
			t.Fatalf("delta of %s before its first update: %s", id, m.Payload())
		}
	}
}

func TestListing(t *testing.T) {
	t.Parallel()
	s, _ := service(t, memory(t), nil)
	for _, id := range []shadow.ID{{Thing: "b"}, {Thing: "a", Name: "x"}, {Thing: "a"}, {Thing: "c"}} {
		do(t, s, things.Request{ID: id, Op: shadow.OpUpdate, Payload: []byte(`{"state":{"desired":{"on":true}}}`)})
	}
	do(t, s, things.Request{ID: shadow.ID{Thing: "c"}, Op: shadow.OpDelete})
	names, err := s.Things(t.Context(), "", "", 10)
	if diff := cmp.Diff([]string{"a", "b"}, names); diff != "" || err != nil {
		t.Errorf("Things: %v\n%s", err, diff)
	}
	infos, err := s.Shadows(t.Context(), "a", "", true, 10)
	if err != nil || len(infos) != 2 || infos[0].Name != "" || infos[1].Name != "x" || infos[0].InSync {
		t.Errorf("Shadows = %+v, %v", infos, err)
	}
	only, err := s.Names(t.Context(), "a", "", 10)
	if diff := cmp.Diff([]string{"x"}, only); diff != "" || err != nil {
		t.Errorf("Names: %v\n%s", err, diff)
	}
}

// The history that is written with each version says who changed what, how and when.
func TestHistory(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_700_000_000_123)
	clock := func() time.Time { return at }
	store := memstore.New(statestore.Options{Now: clock})
	s, _ := service(t, store, func(o *things.Options) { o.Now = clock })
	do(t, s, update(`{"state":{"desired":{"on":true}},"clientToken":"x"}`))
	do(t, s, things.Request{ID: lamp, Op: shadow.OpDelete, Author: shadow.Author{Channel: "rest", Principal: "ops"}})
	entries, err := s.Changes(t.Context(), lamp, 0, 10)
	if err != nil || len(entries) != 2 {
		t.Fatalf("Changes = %d entries, %v", len(entries), err)
	}
	first, second := entries[0], entries[1]
	if first.Version != 1 || first.Time != at.UnixMilli() || first.Op != shadow.OpUpdate || first.Token != `"x"` ||
		first.Author != (shadow.Author{Channel: "mqtt", ClientID: "c1"}) || string(first.Patch) != `{"desired":{"on":true}}` {
		t.Errorf("first entry = %+v, patch %s", first, first.Patch)
	}
	if second.Version != 2 || second.Op != shadow.OpDelete || second.Author != (shadow.Author{Channel: "rest", Principal: "ops"}) {
		t.Errorf("second entry = %+v", second)
	}
}

// A tombstone keeps the version for its time; after that the shadow starts at 1.
func TestTombstoneExpires(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now := time.UnixMilli(1_700_000_000_000)
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	store := memstore.New(statestore.Options{Now: clock})
	s, _ := service(t, store, func(o *things.Options) { o.Now = clock })
	step := func(d time.Duration) { mu.Lock(); now = now.Add(d); mu.Unlock() }

	do(t, s, update(`{"state":{}}`))
	do(t, s, things.Request{ID: lamp, Op: shadow.OpDelete})
	step(47 * time.Hour)
	if r := do(t, s, update(`{"state":{}}`)); r.Version != 3 {
		t.Errorf("version after 47 h = %d, want 3", r.Version)
	}
	do(t, s, things.Request{ID: lamp, Op: shadow.OpDelete})
	step(49 * time.Hour)
	if r := do(t, s, update(`{"state":{}}`)); r.Version != 1 {
		t.Errorf("version after 49 h = %d, want 1", r.Version)
	}
}

// The cache stays within its budget, and a document that was dropped is read again.
func TestCacheBudget(t *testing.T) {
	t.Parallel()
	s, _ := service(t, memory(t), func(o *things.Options) { o.CacheBytes = 50_000 })
	for i := range 200 {
		id := shadow.ID{Thing: fmt.Sprintf("t%d", i)}
		do(t, s, things.Request{ID: id, Op: shadow.OpUpdate, Payload: []byte(`{"state":{"reported":{"a":1}}}`)})
	}
	st := s.Stats()
	if st.CacheUsed > 50_000 || st.Cached > 40 {
		t.Errorf("cache holds %d documents, %d bytes", st.Cached, st.CacheUsed)
	}
	r := do(t, s, things.Request{ID: shadow.ID{Thing: "t0"}, Op: shadow.OpUpdate, Payload: []byte(`{"state":{"reported":{"b":1}}}`)})
	if r.Version != 2 {
		t.Errorf("version of a shadow read again = %d, want 2", r.Version)
	}
}

func TestQuota(t *testing.T) {
	t.Parallel()
	s, _ := service(t, memory(t), func(o *things.Options) { o.Quota = things.Quota{Rate: 3} })
	var refused int
	for range 8 {
		if r := do(t, s, update(`{"state":{}}`)); r.Err != nil && r.Err.Code == 429 {
			refused++
		}
	}
	if refused == 0 || refused > 5 {
		t.Errorf("%d of 8 requests refused with a rate of 3 a second", refused)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	s := things.New(things.Options{Store: memory(t), Publisher: &recorder{}})
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := do(t, s, update(`{"state":{}}`)); r.Err == nil || r.Err.Code != 500 {
		t.Errorf("request after Close: %+v", r)
	}
}

// A request that builds its document from the current one makes no version when there is nothing to do.
func TestBuild(t *testing.T) {
	t.Parallel()
	svc, rec := service(t, memstore.New(statestore.Options{}), nil)
	id := shadow.ID{Thing: "lamp"}
	build := func(doc *shadow.Document) ([]byte, *shadow.Error) {
		if doc.Reported().Member("on").Exists() {
			return nil, nil
		}
		return []byte(`{"state":{"reported":{"on":true}}}`), nil
	}
	for range 2 {
		r := svc.Do(t.Context(), things.Request{ID: id, Op: shadow.OpUpdate, Build: build})
		if r.Err != nil || r.Version != 1 {
			t.Fatalf("Do = version %d, %v", r.Version, r.Err)
		}
	}
	if got := len(rec.take()); got != 2 {
		t.Errorf("%d messages, want accepted and documents of one update", got)
	}
	refused := svc.Do(t.Context(), things.Request{ID: id, Op: shadow.OpUpdate, Quiet: true, Build: func(*shadow.Document) ([]byte, *shadow.Error) {
		return nil, &shadow.Error{Code: 404, Message: "no"}
	}})
	if refused.Err == nil || refused.Err.Code != 404 || len(rec.take()) != 0 {
		t.Errorf("a refusal of Build gives %v", refused.Err)
	}
}
