package topic_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/umbra-iot/umbra/broker/topic"
)

// set adds a subscription that must be valid.
func set(tb testing.TB, ix *topic.Index[int], filter string, subscriber int, o topic.Options) {
	tb.Helper()
	if _, err := ix.Set(filter, subscriber, o); err != nil {
		tb.Fatalf("Set(%.60q) = %v", filter, err)
	}
}

// TestIndexAgreesWithMatch makes and removes random subscriptions and compares every answer with Match over a list.
func TestIndexAgreesWithMatch(t *testing.T) {
	t.Parallel()
	type key struct {
		filter     string
		subscriber int
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	levels := []string{"a", "b", "", "$x", "c"}
	random := func(words []string) string {
		parts := make([]string, 1+rnd.IntN(4))
		for i := range parts {
			parts[i] = words[rnd.IntN(len(words))]
		}
		return strings.Join(parts, "/")
	}
	ix := topic.NewIndex[int](0)
	model := map[key]byte{}
	for i := range 20_000 {
		k := key{random(append(levels, "+", "+")), rnd.IntN(40)}
		if rnd.IntN(4) == 0 {
			k.filter = strings.TrimPrefix(k.filter+"/#", "/")
		}
		if topic.ValidFilter(k.filter) != nil {
			continue
		}
		_, had := model[k]
		if rnd.IntN(2) == 0 {
			if got := ix.Remove(k.filter, k.subscriber); got != had {
				t.Fatalf("Remove(%q, %d) = %v, want %v", k.filter, k.subscriber, got, had)
			}
			delete(model, k)
		} else {
			qos := byte(rnd.IntN(3))
			if got, err := ix.Set(k.filter, k.subscriber, topic.Options{QoS: qos}); got != had || err != nil {
				t.Fatalf("Set(%q, %d) = %v, %v, want %v", k.filter, k.subscriber, got, err, had)
			}
			model[k] = qos
		}
		name := random(levels)
		if i%10 != 0 || topic.ValidName(name) != nil {
			continue
		}
		var want, got []string
		for k, qos := range model {
			if topic.Match(k.filter, name) {
				want = append(want, fmt.Sprint(k.subscriber, qos))
			}
		}
		for _, e := range ix.Append(nil, name) {
			got = append(got, fmt.Sprint(e.Subscriber, e.QoS))
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("Append(%q) = %v, want %v", name, got, want)
		}
	}
	if ix.Len() != len(model) {
		t.Errorf("Len() = %d, want %d", ix.Len(), len(model))
	}
	for k := range model {
		ix.Remove(k.filter, k.subscriber)
	}
	if ix.Len() != 0 || ix.Nodes() != 0 {
		t.Errorf("after removing all: Len = %d, Nodes = %d, want 0", ix.Len(), ix.Nodes())
	}
}

func TestIndexLevelLimit(t *testing.T) {
	t.Parallel()
	ix := topic.NewIndex[int](3)
	set(t, ix, "a/b/c", 1, topic.Options{})
	set(t, ix, "$share/g/a/b/c", 1, topic.Options{})
	for _, f := range []string{"a/b/c/d", "a/b/c/#", "///", "$share/g/a/b/c/d"} {
		if _, err := ix.Set(f, 1, topic.Options{}); !errors.Is(err, topic.ErrTooManyLevels) {
			t.Errorf("Set(%q) = %v, want %v", f, err, topic.ErrTooManyLevels)
		}
	}
	if got := len(ix.Append(nil, "a/b/c/d")); got != 0 {
		t.Errorf("a name with more levels matched %d times", got)
	}
}

func TestIndexDeepFilters(t *testing.T) {
	t.Parallel()
	const depth = 32_768
	ix := topic.NewIndex[int](0)
	exact := strings.Repeat("/", depth*2-2)
	plus := strings.Repeat("+/", depth-1) + "+"
	deep := strings.Repeat("a/", depth-1) + "#"
	for i, f := range []string{exact, plus, deep} {
		set(t, ix, f, i, topic.Options{})
	}
	tests := []struct {
		name string
		want []int
	}{
		{exact, []int{0}},
		{strings.Repeat("a/", depth-1) + "a", []int{1, 2}},
		{strings.Repeat("a/", depth-2) + "a", []int{2}},
	}
	for _, tt := range tests {
		var got []int
		for _, e := range ix.Append(nil, tt.name) {
			got = append(got, e.Subscriber)
		}
		slices.Sort(got)
		if !slices.Equal(got, tt.want) {
			t.Errorf("Append(%.10q and so on) = %v, want %v", tt.name, got, tt.want)
		}
	}
	for i, f := range []string{exact, plus, deep} {
		if !ix.Remove(f, i) {
			t.Errorf("Remove of filter %d = false", i)
		}
	}
	if ix.Nodes() != 0 {
		t.Errorf("Nodes() = %d, want 0", ix.Nodes())
	}
}

func TestIndexManySubscribers(t *testing.T) {
	t.Parallel()
	const n = 100_000
	ix := topic.NewIndex[int](0)
	for i := range n {
		set(t, ix, "broadcast/+", i, topic.Options{})
	}
	entries := ix.Append(nil, "broadcast/x")
	if len(entries) != n || len(topic.Merge(entries, -1)) != n {
		t.Fatalf("Append found %d of %d", len(entries), n)
	}
	for i := range n {
		if !ix.Remove("broadcast/+", i) {
			t.Fatalf("Remove(%d) = false", i)
		}
	}
	if ix.Nodes() != 0 {
		t.Errorf("Nodes() = %d, want 0", ix.Nodes())
	}
}

func TestSharedMembersTakeTurns(t *testing.T) {
	t.Parallel()
	ix := topic.NewIndex[int](0)
	for s := range 3 {
		set(t, ix, "$share/g/a/+", s, topic.Options{QoS: 1, Identifier: uint32(s + 1)})
	}
	set(t, ix, "$share/h/a/+", 7, topic.Options{})
	set(t, ix, "a/b", 8, topic.Options{})
	chosen := map[int]int{}
	for range 30 {
		entries := ix.Append(nil, "a/b")
		if len(entries) != 3 {
			t.Fatalf("Append(a/b) gave %d entries, want one for each group and one more", len(entries))
		}
		for _, e := range entries {
			chosen[e.Subscriber]++
			if e.Shared != (e.Subscriber != 8) {
				t.Errorf("entry %+v: Shared is wrong", e)
			}
		}
	}
	for s, want := range map[int]int{0: 10, 1: 10, 2: 10, 7: 30, 8: 30} {
		if chosen[s] != want {
			t.Errorf("subscriber %d chosen %d times, want %d", s, chosen[s], want)
		}
	}
}

func TestSharedPrefersReadyMembers(t *testing.T) {
	t.Parallel()
	ix := topic.NewIndex[int](0)
	for s := range 5 {
		set(t, ix, "$share/g/a", s, topic.Options{})
	}
	chosen := map[int]int{}
	for range 100 {
		for _, e := range ix.Append(nil, "a", func(e *topic.Entry[int]) bool { return e.Subscriber == 1 || e.Subscriber == 4 }) {
			chosen[e.Subscriber]++
		}
	}
	if chosen[1] != 50 || chosen[4] != 50 {
		t.Errorf("chosen %v, want the ready 1 and 4 equally often", chosen)
	}
	for range 100 {
		if got := len(ix.Append(nil, "a", func(*topic.Entry[int]) bool { return false })); got != 1 {
			t.Fatalf("nobody ready: %d entries, want 1", got)
		}
	}
	for range 100 { // nobody fulfils the first wish
		for _, e := range ix.Append(nil, "a", func(*topic.Entry[int]) bool { return false }, func(e *topic.Entry[int]) bool { return e.Subscriber == 3 }) {
			if e.Subscriber != 3 {
				t.Fatalf("chosen %d, want 3, who fulfils the second wish", e.Subscriber)
			}
		}
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	ix := topic.NewIndex[int](0)
	set(t, ix, "a/b", 1, topic.Options{QoS: 1, Identifier: 11})
	set(t, ix, "a/+", 1, topic.Options{QoS: 2, NoLocal: true})
	set(t, ix, "a/#", 1, topic.Options{QoS: 0, Identifier: 12, RetainAsPublished: true})
	set(t, ix, "#", 2, topic.Options{NoLocal: true, QoS: 1})
	set(t, ix, "$share/g/a/b", 1, topic.Options{QoS: 2, Identifier: 13})
	tests := []struct {
		publisher int
		want      []string
	}{
		{0, []string{"1 QoS 2 retain true shared false ids [11 12]", "1 QoS 2 retain false shared true ids [13]", "2 QoS 1 retain false shared false ids []"}},
		{1, []string{"1 QoS 1 retain true shared false ids [11 12]", "1 QoS 2 retain false shared true ids [13]", "2 QoS 1 retain false shared false ids []"}},
		{2, []string{"1 QoS 2 retain true shared false ids [11 12]", "1 QoS 2 retain false shared true ids [13]"}},
	}
	for _, tt := range tests {
		for range 3 { // what the index keeps must stay as it is
			merged := topic.Merge(ix.Append(nil, "a/b"), tt.publisher)
			slices.SortStableFunc(merged, func(a, b topic.Entry[int]) int {
				if c := cmp.Compare(a.Subscriber, b.Subscriber); c != 0 {
					return c
				}
				return cmp.Compare(len(b.Identifiers), len(a.Identifiers))
			})
			var got []string
			for _, e := range merged {
				slices.Sort(e.Identifiers)
				got = append(got, fmt.Sprintf("%d QoS %d retain %v shared %v ids %v",
					e.Subscriber, e.QoS, e.RetainAsPublished, e.Shared, e.Identifiers))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("Merge for publisher %d = %q, want %q", tt.publisher, got, tt.want)
			}
		}
	}
}

func TestMergeMany(t *testing.T) {
	t.Parallel()
	ix := topic.NewIndex[int](0)
	for i := range 1000 {
		set(t, ix, "a", i, topic.Options{QoS: 1})
		set(t, ix, "+", i, topic.Options{QoS: 2})
	}
	merged := topic.Merge(ix.Append(nil, "a"), -1)
	if len(merged) != 1000 {
		t.Fatalf("Merge left %d entries, want 1000", len(merged))
	}
	for _, e := range merged {
		if e.QoS != 2 {
			t.Fatalf("entry %+v: QoS %d, want 2", e, e.QoS)
		}
	}
}

func TestIndexConcurrently(t *testing.T) {
	t.Parallel()
	ix := topic.NewIndex[int](0)
	set(t, ix, "a/+/c", -1, topic.Options{})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 500 {
				f := []string{"a/b/c", "a/#", "$share/g/a/b/c", "$share/g/+/b/c"}[i%4]
				if _, err := ix.Set(f, w, topic.Options{}); err != nil {
					t.Errorf("Set(%q) = %v", f, err)
				}
				found := false
				for _, e := range ix.Append(nil, "a/b/c", func(e *topic.Entry[int]) bool { return e.Subscriber%2 == 0 }) {
					found = found || e.Subscriber == -1
				}
				if !found {
					t.Error("Append(a/b/c) lost a subscription that nobody touched")
				}
				ix.Remove(f, w)
			}
		})
	}
	wg.Wait()
	if ix.Len() != 1 {
		t.Errorf("Len() = %d, want 1", ix.Len())
	}
}

// shadowIndex has the topics that 20,000 devices subscribe to: four by name and one with a wildcard each.
func shadowIndex(tb testing.TB) *topic.Index[int] {
	ix := topic.NewIndex[int](0)
	for i := range 20_000 {
		p := fmt.Sprintf("$aws/things/device-%d/shadow/", i)
		for _, s := range []string{"update/delta", "update/accepted", "update/rejected", "get/accepted", "get/#"} {
			set(tb, ix, p+s, i, topic.Options{QoS: 1})
		}
	}
	return ix
}

func TestAppendAllocatesNothing(t *testing.T) {
	ix := shadowIndex(t)
	set(t, ix, "$share/g/$aws/things/+/shadow/update/delta", -1, topic.Options{})
	dst := make([]topic.Entry[int], 0, 8)
	for _, name := range []string{
		"$aws/things/device-77/shadow/update/delta", "$aws/things/device-77/shadow/get/accepted",
		"$aws/things/device-77/shadow/update/documents", "nobody/listens",
	} {
		if n := testing.AllocsPerRun(100, func() { dst = topic.Merge(ix.Append(dst[:0], name), 0) }); n != 0 {
			t.Errorf("Append(%q) made %v allocations, want 0", name, n)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	ix := shadowIndex(b)
	for _, bb := range []struct{ name, topic string }{
		{"hit", "$aws/things/device-7777/shadow/update/delta"},
		{"hit-two-filters", "$aws/things/device-7777/shadow/get/accepted"},
		{"miss-below-a-device", "$aws/things/device-7777/shadow/update/documents"},
		{"miss", "plant/7/line/3/temperature"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			var dst []topic.Entry[int]
			for b.Loop() {
				dst = ix.Append(dst[:0], bb.topic)
			}
		})
	}
}

func BenchmarkSetRemove(b *testing.B) {
	ix := shadowIndex(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ix.Set("$aws/things/new/shadow/update/#", 1, topic.Options{}); err != nil {
			b.Fatal(err)
		}
		ix.Remove("$aws/things/new/shadow/update/#", 1)
	}
}
