package retained_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/umbra-iot/umbra/broker/retained"
	"github.com/umbra-iot/umbra/broker/topic"
	"github.com/umbra-iot/umbra/broker/wire"
)

const now = 1_700_000_000_000

func message(name, payload string, expires int64) *wire.Message {
	return wire.NewMessage(wire.Message{Topic: name, Payload: []byte(payload), Retain: true, Expires: expires})
}

func set(tb testing.TB, s *retained.Store, m *wire.Message, at int64) {
	tb.Helper()
	if err := s.Set(m, "", at); err != nil {
		tb.Fatalf("Set(%q) = %v", m.Topic, err)
	}
}

// match reads all pages and returns the topics.
func match(tb testing.TB, s *retained.Store, filter string, limit int, at int64) []string {
	tb.Helper()
	var topics []string
	after := ""
	for range s.Len() + 2 {
		p := s.Match(filter, after, limit, at)
		for _, m := range p.Messages {
			topics = append(topics, m.Topic)
		}
		if p.Done {
			return topics
		}
		if p.Next <= after || len(p.Messages) > limit {
			tb.Fatalf("Match(%q, %q, %d): Next = %q, %d messages", filter, after, limit, p.Next, len(p.Messages))
		}
		after = p.Next
	}
	tb.Fatalf("Match(%q) does not end", filter)
	return nil
}

func TestSetGetDelete(t *testing.T) {
	t.Parallel()
	s := retained.New(retained.Limits{})
	if _, ok := s.Get("a", now); ok {
		t.Error("Get(a) of an empty store = true")
	}
	set(t, s, message("a", "1", 0), now)
	set(t, s, message("a", "22", 0), now+5)
	m, ok := s.Get("a", now)
	if !ok || string(m.Payload) != "22" || m.Modified != now+5 {
		t.Errorf("Get(a) = %+v, %v", m, ok)
	}
	if s.Len() != 1 || s.Bytes() != 3 {
		t.Errorf("Len() = %d, Bytes() = %d, want 1, 3", s.Len(), s.Bytes())
	}
	set(t, s, message("a", "", 0), now) // deletes
	set(t, s, message("b", "", 0), now)
	if _, ok := s.Get("a", now); ok || s.Len() != 0 || s.Bytes() != 0 {
		t.Errorf("after an empty payload: Get(a) = %v, Len() = %d, Bytes() = %d", ok, s.Len(), s.Bytes())
	}
	set(t, s, message("a", "1", 0), now)
	if !s.Delete("a") || s.Delete("a") {
		t.Error("Delete(a) wants to be true once")
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	s := retained.New(retained.Limits{})
	set(t, s, message("a", "1", now+3000), now)
	set(t, s, message("b", "1", now+1000), now)
	set(t, s, message("c", "1", now+2000), now)
	set(t, s, message("d", "1", 0), now)
	set(t, s, message("c", "1", 0), now)      // does not expire any more
	set(t, s, message("d", "1", now-1), now)  // was late
	set(t, s, message("e", "1", now+10), now) // is deleted
	s.Delete("e")
	if _, ok := s.Get("d", now); ok {
		t.Error("Get(d) = true, want an expired message to have replaced it by nothing")
	}
	if at, ok := s.NextExpiry(); !ok || at != now+1000 {
		t.Errorf("NextExpiry() = %d, %v, want that of b", at, ok)
	}
	if _, ok := s.Get("b", now+1000); ok {
		t.Error("Get(b) = true after its time")
	}
	if got := match(t, s, "#", 10, now+1000); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("Match(#) = %q, want a and c", got)
	}
	if got := s.Match("b", "", 10, now+1000); len(got.Messages) != 0 || !got.Done {
		t.Errorf("Match(b) = %+v", got)
	}
	if got := s.Expire(now+3000, 1); got != 1 || s.Len() != 2 {
		t.Errorf("Expire(limit 1) = %d, Len() = %d, want 1, 2", got, s.Len())
	}
	if got := s.Expire(now+3000, 10); got != 1 || s.Len() != 1 {
		t.Errorf("Expire() = %d, Len() = %d, want 1, 1", got, s.Len())
	}
	if _, ok := s.NextExpiry(); ok {
		t.Error("NextExpiry() = true, want none left")
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	s := retained.New(retained.Limits{Messages: 2, Bytes: 10})
	set(t, s, message("a", "1", 0), now)
	set(t, s, message("b", "1", now+1000), now)
	for _, m := range []*wire.Message{message("c", "1", 0), message("a", "1234567890", 0)} {
		if err := s.Set(m, "", now); !errors.Is(err, retained.ErrFull) {
			t.Errorf("Set(%s) = %v, want %v", m.Topic, err, retained.ErrFull)
		}
	}
	if m, ok := s.Get("a", now); !ok || string(m.Payload) != "1" {
		t.Errorf("Get(a) = %+v, %v, want what was there before", m, ok)
	}
	set(t, s, message("a", "1234567", 0), now)  // to the byte, in place of the old one
	set(t, s, message("c", "1", 0), now+1000)   // in place of the expired one
	set(t, s, message("c", "", 0), now+1000)    // deleting always works
	set(t, s, message("nothing", "", 0), now)   // too
	set(t, s, message("late", "1", now-1), now) // nothing to keep
	if s.Len() != 1 || s.Bytes() != 8 {
		t.Errorf("Len() = %d, Bytes() = %d, want 1, 8", s.Len(), s.Bytes())
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	s := retained.New(retained.Limits{})
	for _, name := range []string{
		"!", "$SYS/a", "$SYS/b", "$aws", "%", "/", "/a", "a", "a!", "a-b", "a/", "a/b", "a/b/c", "a/c", "a/c/d", "a0", "b/b", "b/c",
	} {
		set(t, s, message(name, "1", 0), now)
	}
	for filter, want := range map[string]string{
		"#":       "! % / /a a a! a-b a/ a/b a/b/c a/c a/c/d a0 b/b b/c",
		"+":       "! % a a! a-b a0",
		"/#":      "/ /a",
		"/+":      "/ /a",
		"a":       "a",
		"nothing": "",
		"a/#":     "a a/ a/b a/b/c a/c a/c/d",
		"a/+":     "a/ a/b a/c",
		"a/+/#":   "a/ a/b a/b/c a/c a/c/d",
		"a/b/#":   "a/b a/b/c",
		"b/#":     "b/b b/c",
		"+/b":     "a/b b/b",
		"+/b/#":   "a/b a/b/c b/b",
		"$SYS/#":  "$SYS/a $SYS/b",
		"$SYS/+":  "$SYS/a $SYS/b",
		"$aws/#":  "$aws",
		"$SYS/a":  "$SYS/a",
		"zz/#":    "",
	} {
		for _, limit := range []int{1, 2, 3, 100} {
			if got := strings.Join(match(t, s, filter, limit, now), " "); got != want {
				t.Errorf("Match(%q) in pages of %d = %q, want %q", filter, limit, got, want)
			}
		}
	}
}

// TestAgainstMap sets, deletes and expires at random and compares with a map.
func TestAgainstMap(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 4))
	s := retained.New(retained.Limits{})
	model := map[string]*wire.Message{}
	name := func() string { return fmt.Sprintf("%c/%d/%d", 'a'+rune(rnd.IntN(3)), rnd.IntN(40), rnd.IntN(40)) }
	var clock int64 = now
	for i := range 60_000 {
		switch n := name(); rnd.IntN(10) {
		case 0, 1, 2:
			_, had := model[n]
			if got := s.Delete(n); got != had {
				t.Fatalf("Delete(%q) = %v, want %v", n, got, had)
			}
			delete(model, n)
		case 3:
			clock += int64(rnd.IntN(3))
			for n := 1; n > 0; {
				n = s.Expire(clock, 7)
			}
			for n, m := range model {
				if m.Expired(clock) {
					delete(model, n)
				}
			}
		case 4, 5, 6, 7, 8:
			m := message(n, "payload"[:1+rnd.IntN(6)], 0)
			if rnd.IntN(5) == 0 {
				m = message(n, "p", clock+1+int64(rnd.IntN(2000)))
			}
			set(t, s, m, clock)
			model[n] = m
		default:
			m, ok := s.Get(n, clock)
			if want, had := model[n]; ok != had || ok && m.Message != want {
				t.Fatalf("Get(%q) = %+v, %v, want %+v", n, m, ok, want)
			}
		}
		if i%1000 == 0 || i > 59_990 {
			compare(t, s, model, clock, []string{"#", "a/+/7", "b/#", "+/3/+"}[rnd.IntN(4)], 1+rnd.IntN(100))
		}
	}
}

func compare(t *testing.T, s *retained.Store, model map[string]*wire.Message, clock int64, filter string, limit int) {
	t.Helper()
	var want []string
	var bytes int64
	for n, m := range model {
		bytes += int64(m.Size())
		if topic.Match(filter, n) {
			want = append(want, n)
		}
	}
	slices.Sort(want)
	if got := match(t, s, filter, limit, clock); !slices.Equal(got, want) {
		t.Fatalf("Match(%q) gave %d topics, want %d", filter, len(got), len(want))
	}
	if s.Len() != len(model) || s.Bytes() != bytes {
		t.Fatalf("Len() = %d, Bytes() = %d, want %d, %d", s.Len(), s.Bytes(), len(model), bytes)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	s := retained.New(retained.Limits{})
	for _, name := range []string{"b", "a", "$SYS/x", "c"} {
		set(t, s, message(name, "1", 0), now)
	}
	set(t, s, message("aa", "1", now+1), now)
	p := s.List("", 2, now+1)
	q := s.List(p.Next, 5, now+1)
	got := slices.Concat(p.Messages, q.Messages)
	topics := make([]string, len(got))
	for i, m := range got {
		topics[i] = m.Topic
	}
	if want := []string{"$SYS/x", "a", "b", "c"}; !slices.Equal(topics, want) || p.Done || !q.Done {
		t.Errorf("List() = %q, want %q", topics, want)
	}
	if !slices.IsSortedFunc(got, func(a, b retained.Message) int { return cmp.Compare(a.Topic, b.Topic) }) {
		t.Error("List() is not in order")
	}
}

func TestConcurrently(t *testing.T) {
	t.Parallel()
	s := retained.New(retained.Limits{})
	for i := range 2000 {
		set(t, s, message(fmt.Sprintf("stays/%04d", i), "1", 0), now)
	}
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := range 2000 {
				name := fmt.Sprintf("stays/%04d/%d", i, w)
				if err := s.Set(message(name, "1", now+1), "", now); err != nil {
					t.Errorf("Set(%q) = %v", name, err)
				}
				if i%3 == 0 {
					s.Delete(name)
				}
			}
		})
	}
	wg.Go(func() {
		seen := 0
		for after, done := "", false; !done; {
			p := s.Match("stays/+", after, 50, now)
			seen += len(p.Messages)
			after, done = p.Next, p.Done
		}
		if seen != 2000 {
			t.Errorf("a subscriber got %d of 2000 messages", seen)
		}
	})
	wg.Wait()
}

func BenchmarkSet(b *testing.B) {
	s := retained.New(retained.Limits{})
	messages := make([]*wire.Message, 100_000)
	for i, n := range rand.New(rand.NewPCG(1, 1)).Perm(len(messages)) {
		messages[i] = message(fmt.Sprintf("plant/%d/temperature", n), "21.5", 0)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if err := s.Set(messages[i%len(messages)], "", now); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkMatchAll reads a million messages in pages of 1000, as for a subscriber of "#".
func BenchmarkMatchAll(b *testing.B) {
	s := retained.New(retained.Limits{})
	for i := range 1_000_000 {
		set(b, s, message(fmt.Sprintf("plant/%d/temperature", i), "21.5", 0), now)
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for after, done := "", false; !done; {
			p := s.Match("#", after, 1000, now)
			n += len(p.Messages)
			after, done = p.Next, p.Done
		}
		if n != 1_000_000 {
			b.Fatalf("%d messages", n)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1e6, "ns/message")
}
