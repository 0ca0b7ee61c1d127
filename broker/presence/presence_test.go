package presence_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/umbra-iot/umbra/broker/presence"
)

// TestInterleavings lives 20,000 random lives of a thing with two clients: connections that begin, are taken over, end
// in good order, are half open until somebody notices, and end late or twice; restarts and crashes of the server, after
// which ends of its connections may still be told. After each step the thing has to be connected exactly when one of its
// connections lives, since the newest of them has begun, or else since the last end, for the reason of that end.
func TestInterleavings(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20_000) {
		w := &world{rand: rand.New(rand.NewPCG(seed, 4)), table: presence.New(10), saved: map[string]*presence.Saved{}}
		for step := range 20 {
			w.step()
			got, _ := w.table.State("lamp")
			if got != w.want() {
				t.Fatalf("life %d, step %d: State() = %+v, want %+v\n%v", seed, step, got, w.want(), w.story)
			}
		}
	}
}

// world is a server, a thing and what is true of it.
type world struct {
	rand  *rand.Rand
	table *presence.Table
	saved map[string]*presence.Saved // in the store
	now   int64
	epoch int64
	live  []presence.Session // in order of their epochs
	past  []presence.Session // have ended
	last  presence.State     // since the last end that left nothing
	story []string
}

func (w *world) step() {
	w.now += 1 + w.rand.Int64N(1000)
	switch n := w.rand.IntN(8); {
	case n < 3:
		w.begin()
	case n < 5 && len(w.live) > 0:
		w.end(w.rand.IntN(len(w.live)), fmt.Sprintf("REASON_%d", w.epoch))
	case n == 5 && len(w.past) > 0: // told late, or again
		s := w.past[w.rand.IntN(len(w.past))]
		w.tell("late end of", s.Epoch)
		w.table.End(s, w.now, "LATE")
	case n == 6 && len(w.live) > 0: // taken over: the new one is told of first
		w.begin()
		w.end(w.rand.IntN(len(w.live)-1), "DUPLICATE_CLIENTID")
	case n == 7:
		w.restart()
	}
	if w.rand.IntN(2) == 0 {
		w.store()
	}
}

func (w *world) begin() {
	w.epoch++
	s := presence.Session{Epoch: w.epoch, Since: w.now, Things: []string{"lamp"}}
	w.tell("begin", s.Epoch)
	w.live = append(w.live, s)
	w.table.Begin(s)
}

func (w *world) end(i int, reason string) {
	s := w.live[i]
	w.tell("end", s.Epoch)
	w.live = slices.Delete(w.live, i, i+1)
	w.past = append(w.past, s)
	w.last = presence.State{Since: w.now, Reason: reason}
	w.table.End(s, w.now, reason)
}

// restart ends all connections without a word. The store has everything, or, after a crash, what it had last.
func (w *world) restart() {
	crash := w.rand.IntN(2) == 0
	if !crash {
		w.store()
	}
	w.tell("restart; crash", crash)
	w.past, w.live = append(w.past, w.live...), nil
	w.table = presence.New(10)
	w.table.Restore(maps.Clone(w.saved), w.now, "CONNECTION_LOST")
	switch s := w.saved["lamp"]; {
	case s == nil:
		w.last = presence.State{}
	case len(s.Live) > 0:
		w.last = presence.State{Since: w.now, Reason: "CONNECTION_LOST"}
	default:
		w.last = presence.State{Since: s.Since, Reason: s.Reason}
	}
}

func (w *world) store() { maps.Copy(w.saved, w.table.Changes()) }

func (w *world) want() presence.State {
	if len(w.live) > 0 {
		return presence.State{Connected: true, Since: w.live[len(w.live)-1].Since}
	}
	return w.last
}

func (w *world) tell(what string, of any) { w.story = append(w.story, fmt.Sprint(what, " ", of)) }

// TestRestoreTellsTheNewestEpoch wants epochs to go on where the last run ended.
func TestRestoreTellsTheNewestEpoch(t *testing.T) {
	t.Parallel()
	saved := map[string]*presence.Saved{
		"a": {Live: []presence.Link{{Epoch: 3, Since: 1}, {Epoch: 9, Since: 2}}}, "b": {Live: []presence.Link{{Epoch: 5, Since: 1}}}, "c": {Since: 4},
	}
	if got := presence.New(10).Restore(saved, 10, "LOST"); got != 9 {
		t.Errorf("Restore() = %d, want 9", got)
	}
}

// TestLimit wants those who left first to be forgotten, in the store too, over a restart, and never those who are connected.
func TestLimit(t *testing.T) {
	t.Parallel()
	table, saved := presence.New(2), map[string]*presence.Saved{}
	session := func(n int64) presence.Session {
		return presence.Session{Epoch: n, Since: n, Things: []string{fmt.Sprintf("t%d", n)}}
	}
	for n := range int64(5) {
		table.Begin(session(n))
	}
	for _, n := range []int64{3, 1, 2} { // 0 and 4 stay
		table.End(session(n), 100+n, "LEFT")
	}
	known := func() (names []string) {
		for n := range 5 {
			name := fmt.Sprintf("t%d", n)
			if s, ok := table.State(name); ok {
				names = append(names, fmt.Sprintf("%s %t", name, s.Connected))
			}
		}
		return names
	}
	if got, want := known(), []string{"t0 true", "t1 false", "t2 false", "t4 true"}; !slices.Equal(got, want) {
		t.Errorf("known are %q, want %q", got, want)
	}
	for thing, s := range table.Changes() {
		if s != nil {
			saved[thing] = s
		}
	}
	table = presence.New(2)
	table.Restore(saved, 200, "LOST")
	if got, want := known(), []string{"t0 false", "t4 false"}; !slices.Equal(got, want) {
		t.Errorf("after a restart known are %q, want %q", got, want)
	}
	forgotten := table.Changes()
	if s, ok := forgotten["t1"]; !ok || s != nil {
		t.Errorf("Changes() of a thing that is forgotten = %v, %t", s, ok)
	}
}
