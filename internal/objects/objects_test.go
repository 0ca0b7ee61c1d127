package objects_test

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

	"github.com/umbra-iot/umbra/internal/objects"
	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/memstore"
	"github.com/umbra-iot/umbra/statestore/pebblestore"
	"github.com/umbra-iot/umbra/statestore/redisstore"
	"github.com/umbra-iot/umbra/statestore/storetest"
	"github.com/umbra-iot/umbra/things"
)

// patience bounds every wait of these tests.
const patience = 10 * time.Second

// onEachStore runs a test on an empty store of each technology.
func onEachStore(t *testing.T, test func(t *testing.T, s statestore.Store)) {
	t.Helper()
	open := map[string]func(t *testing.T) (statestore.Store, error){
		"memory": func(*testing.T) (statestore.Store, error) { return memstore.New(statestore.Options{}), nil },
		"pebble": func(t *testing.T) (statestore.Store, error) {
			return pebblestore.Open(t.TempDir(), statestore.Options{}, pebblestore.Options{})
		},
		"redis": func(t *testing.T) (statestore.Store, error) { return openRedis(t, storetest.Redis(t).URL) },
	}
	for name, f := range open {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := f(t)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			test(t, s)
		})
	}
}

func put(t *testing.T, s *objects.Store, name, body string, expect uint64) objects.Object {
	t.Helper()
	o, err := s.Put(t.Context(), objects.Object{Kind: "policy", Name: name, Body: json.RawMessage(body)}, expect, "user:alice")
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestPutGetListDelete(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, store statestore.Store) {
		s := objects.New(objects.Options{Objects: store})
		if _, err := s.Get(t.Context(), "policy", "p"); !errors.Is(err, objects.ErrNotFound) {
			t.Errorf("Get of nothing = %v, want ErrNotFound", err)
		}
		put(t, s, "p", `{"a":1}`, 0)
		second := put(t, s, "p", `{"a":2}`, 1)
		put(t, s, "q", `{}`, objects.Any)
		got, err := s.Get(t.Context(), "policy", "p")
		if err != nil || got.Version != 2 || string(got.Body) != `{"a":2}` || got.Author != "user:alice" || got.Modified != second.Modified {
			t.Errorf("Get = %+v, %v", got, err)
		}
		for _, expect := range []uint64{0, 1, 3} {
			if _, err := s.Put(t.Context(), got, expect, ""); !errors.Is(err, objects.ErrConflict) {
				t.Errorf("Put in place of version %d = %v, want ErrConflict", expect, err)
			}
		}
		list, err := s.List(t.Context(), "policy", "", 10)
		if err != nil || len(list) != 2 || list[0].Name != "p" || list[1].Name != "q" {
			t.Errorf("List = %+v, %v", list, err)
		}
		if list, err = s.List(t.Context(), "policy", "p", 10); err != nil || len(list) != 1 {
			t.Errorf("List after p = %+v, %v", list, err)
		}
		if err := s.Delete(t.Context(), "policy", "p", 1, "user:bob"); !errors.Is(err, objects.ErrConflict) {
			t.Errorf("Delete of an old version = %v, want ErrConflict", err)
		}
		if err := s.Delete(t.Context(), "policy", "p", 2, "user:bob"); err != nil {
			t.Error(err)
		}
		if err := s.Delete(t.Context(), "policy", "p", objects.Any, ""); !errors.Is(err, objects.ErrNotFound) {
			t.Errorf("Delete of nothing = %v, want ErrNotFound", err)
		}
		if o := put(t, s, "p", `3`, 0); o.Version != 4 {
			t.Errorf("the version after a delete is %d, want 4", o.Version)
		}
		history, err := s.History(t.Context(), "policy", "p", 1, 10)
		if err != nil || len(history) != 3 || !history[1].Deleted || history[1].Author != "user:bob" || string(history[0].Body) != `{"a":2}` {
			t.Errorf("History = %+v, %v", history, err)
		}
	})
}

func TestInvalid(t *testing.T) {
	t.Parallel()
	s := objects.New(objects.Options{Objects: memstore.New(statestore.Options{})})
	for _, o := range []objects.Object{
		{Kind: "", Name: "n", Body: []byte("1")},
		{Kind: "Policy", Name: "n", Body: []byte("1")},
		{Kind: "policy", Name: "", Body: []byte("1")},
		{Kind: "policy", Name: "a b", Body: []byte("1")},
		{Kind: "policy", Name: "a\x00b", Body: []byte("1")},
		{Kind: "policy", Name: strings.Repeat("a", 257), Body: []byte("1")},
		{Kind: "policy", Name: "n", Body: []byte("{")},
		{Kind: "policy", Name: "n", Body: []byte(`"` + strings.Repeat("a", objects.MaxBodyBytes) + `"`)},
	} {
		if _, err := s.Put(t.Context(), o, objects.Any, ""); !errors.Is(err, objects.ErrInvalid) {
			t.Errorf("Put of %s %.10q with %d bytes = %v, want ErrInvalid", o.Kind, o.Name, len(o.Body), err)
		}
	}
}

// Objects are no things.
func TestObjectsAreNotListedAsThings(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, store statestore.Store) {
		put(t, objects.New(objects.Options{Objects: store}), "p", `{}`, 0)
		svc := things.New(things.Options{Store: store})
		t.Cleanup(func() {
			if err := svc.Close(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		})
		for _, name := range []string{"-a", "lamp"} {
			w := statestore.Write{Key: statestore.Key{Thing: name}, Record: statestore.Record{Version: 1, Body: []byte("{}")}}
			if err := errors.Join(store.Commit(t.Context(), []statestore.Write{w})...); err != nil {
				t.Fatal(err)
			}
		}
		for _, test := range []struct {
			prefix, after, want string
		}{{"", "", "[-a lamp]"}, {"", "$policy", "[-a lamp]"}, {"", "-a", "[lamp]"}, {"l", "", "[lamp]"}, {"$", "", "[]"}, {"$policy", "", "[]"}} {
			got, err := svc.Things(t.Context(), test.prefix, test.after, 10)
			if err != nil || fmt.Sprint(got) != test.want {
				t.Errorf("Things(%q, %q) = %v, %v, want %s", test.prefix, test.after, got, err, test.want)
			}
		}
	})
}

// watcher notes what Watch tells.
type watcher struct {
	mu    sync.Mutex
	calls int
	last  string
}

func (w *watcher) see(list []objects.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	w.last = ""
	for _, o := range list {
		w.last += fmt.Sprintf("%s@%d ", o.Name, o.Version)
	}
}

func (w *watcher) want(t *testing.T, calls int, last string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calls != calls || w.last != last {
		t.Errorf("the watcher was called %d times, last with %q, want %d, %q", w.calls, w.last, calls, last)
	}
}

func TestWatchSeesOwnChangesAtOnce(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, store statestore.Store) {
		s := objects.New(objects.Options{Objects: store})
		put(t, s, "p", `{}`, 0)
		var w watcher
		if err := s.Watch(t.Context(), "policy", w.see); err != nil {
			t.Fatal(err)
		}
		w.want(t, 1, "p@1 ")
		put(t, s, "a", `{}`, 0)
		w.want(t, 2, "a@1 p@1 ")
		if _, err := s.Put(t.Context(), objects.Object{Kind: "user", Name: "u", Body: []byte("{}")}, 0, ""); err != nil {
			t.Fatal(err)
		}
		w.want(t, 2, "a@1 p@1 ")
		if err := s.Delete(t.Context(), "policy", "p", objects.Any, ""); err != nil {
			t.Fatal(err)
		}
		w.want(t, 3, "a@1 ")
	})
}

// More objects than one page of the store has.
func TestWatchReadsAllPages(t *testing.T) {
	t.Parallel()
	s := objects.New(objects.Options{Objects: memstore.New(statestore.Options{})})
	for i := range 600 {
		put(t, s, fmt.Sprint("p", i), `{}`, 0)
	}
	n := 0
	if err := s.Watch(t.Context(), "policy", func(list []objects.Object) { n = len(list) }); err != nil || n != 600 {
		t.Errorf("Watch told of %d objects, %v, want 600", n, err)
	}
}

// counted is a store that counts how often it is listed.
type counted struct {
	statestore.Store
	lists atomic.Int32
}

func (c *counted) Shadows(ctx context.Context, thing, after string, deleted bool, limit int) ([]statestore.Info, error) {
	c.lists.Add(1)
	return c.Store.Shadows(ctx, thing, after, deleted, limit)
}

// A change costs no look at all the others, of which there may be many.
func TestChangeListsNothing(t *testing.T) {
	t.Parallel()
	c := &counted{Store: memstore.New(statestore.Options{})}
	t.Cleanup(func() { c.Close() })
	s := objects.New(objects.Options{Objects: c})
	var w watcher
	if err := s.Watch(t.Context(), "policy", w.see); err != nil {
		t.Fatal(err)
	}
	before := c.lists.Load()
	var names []string
	for i := range 20 { // in an order that is not that of the names
		name := fmt.Sprint("p", i*7%20)
		names = append(names, name)
		put(t, s, name, `{}`, 0)
		put(t, s, name, `{"again":true}`, 1)
	}
	for _, name := range names[:10] {
		if err := s.Delete(t.Context(), "policy", name, objects.Any, ""); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.lists.Load() - before; n != 0 {
		t.Errorf("the store was listed %d times", n)
	}
	slices.Sort(names[10:])
	var got []string
	if err := s.Watch(t.Context(), "policy", func(list []objects.Object) {
		for _, o := range list {
			got = append(got, o.Name)
		}
	}); err != nil || !slices.Equal(got, names[10:]) {
		t.Errorf("there are %v, want %v, %v", got, names[10:], err)
	}
}

func TestOtherNodesSeeChangesWithinASecond(t *testing.T) {
	t.Parallel()
	url := storetest.Redis(t).URL
	var nodes [2]*objects.Store
	var seen [2]chan string
	for i := range nodes {
		store, err := openRedis(t, url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		nodes[i], seen[i] = objects.New(objects.Options{Objects: store}), make(chan string, 100)
		err = nodes[i].Watch(t.Context(), "policy", func(list []objects.Object) { seen[i] <- fmt.Sprint(len(list)) })
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- nodes[i].Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		if got := <-seen[i]; got != "0" {
			t.Errorf("node %d begins with %s objects", i, got)
		}
	}
	for i := range 4 {
		begin := time.Now()
		put(t, nodes[i%2], fmt.Sprint("p", i), `{}`, 0)
		for n := range nodes {
			select {
			case got := <-seen[n]:
				if got != fmt.Sprint(i+1) {
					t.Errorf("node %d sees %s objects, want %d", n, got, i+1)
				}
			case <-time.After(patience):
				t.Fatalf("node %d did not see change %d", n, i)
			}
		}
		t.Logf("seen after %v", time.Since(begin))
	}
}

// Two writers, each of whom reads before it writes, lose nothing.
func TestConcurrentWriters(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, store statestore.Store) {
		s := objects.New(objects.Options{Objects: store})
		put(t, s, "n", `0`, 0)
		const writers, times = 4, 10
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for range times {
					increment(t, s)
				}
			})
		}
		wg.Wait()
		if o, err := s.Get(t.Context(), "policy", "n"); err != nil || string(o.Body) != fmt.Sprint(writers*times) {
			t.Errorf("the number is %s, %v, want %d", o.Body, err, writers*times)
		}
	})
}

func increment(t *testing.T, s *objects.Store) {
	for {
		o, err := s.Get(t.Context(), "policy", "n")
		if err != nil {
			t.Error(err)
			return
		}
		var n int
		if err := json.Unmarshal(o.Body, &n); err != nil {
			t.Error(err)
			return
		}
		o.Body = json.RawMessage(fmt.Sprint(n + 1))
		if _, err = s.Put(t.Context(), o, o.Version, ""); err == nil {
			return
		}
		if !errors.Is(err, objects.ErrConflict) {
			t.Error(err)
			return
		}
	}
}

func openRedis(t *testing.T, url string) (statestore.Store, error) {
	t.Helper()
	return redisstore.Open(t.Context(), url, statestore.Options{}, redisstore.Options{Node: fmt.Sprint("node", time.Now().UnixNano())})
}
