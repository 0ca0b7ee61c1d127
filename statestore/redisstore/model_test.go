package redisstore_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/umbra-iot/umbra/statestore"
	"github.com/umbra-iot/umbra/statestore/redisstore"
	"github.com/umbra-iot/umbra/statestore/storetest"
)

var (
	modelSteps = flag.Int("model.steps", 800, "random steps of TestModel")
	modelSeed  = flag.Uint64("model.seed", 0, "seed of TestModel; 0 chooses one")
)

const (
	modelNodes = 3
	// modelTrust is how long a node of the model writes redoable records on what it knows. Tombstones live at least six
	// times as long.
	modelTrust = 100 * time.Millisecond
)

// TestModel does random operations on several nodes while connections break, answers get lost, scripts are forgotten and
// Redis is killed, and compares what they say with a model. A key of the model has the set of states that it may be in:
// more than one after an unknown outcome, or while Redis and the nodes disagree on the time.
func TestModel(t *testing.T) {
	t.Parallel()
	seed := *modelSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed: -model.seed=%d", seed)
	m := newModel(t, rand.New(rand.NewPCG(seed, 0)))
	for m.step = range *modelSteps {
		m.act()
		if t.Failed() {
			break
		}
	}
	t.Logf("done: %v", m.did)
}

// chained is the redo of the model: a body depends on all changes before it, and none may be missing.
func chained(base statestore.Record, entries []statestore.Entry) ([]byte, error) {
	body, v := base.Body, base.Version
	if base.Deleted {
		return nil, fmt.Errorf("base is a tombstone of version %d", v)
	}
	for _, e := range entries {
		if v++; e.Version != v {
			return nil, fmt.Errorf("entry of version %d, want %d", e.Version, v)
		}
		body = chain(body, e)
	}
	return body, nil
}

func chain(body []byte, e statestore.Entry) []byte {
	sum := sha256.Sum256(slices.Concat(body, e.Body))
	return fmt.Appendf(nil, "%d %x", e.Version, sum[:8])
}

// state is what the store may hold of a shadow. It does not change.
type state struct {
	statestore.Record
	entries []statestore.Entry // since the shadow was created
	kept    uint64             // entries behind this version have to be there
}

var absent = &state{}

// after returns the state after a write on s at a time, and whether it is done.
func (s *state) after(w *statestore.Write, limit int, now time.Time) (*state, bool) {
	base := s
	if s.ExpiredAt(now) {
		base = absent
	}
	if base.Version != w.Expect {
		return s, false // also an expired one: the clock may be set back
	}
	n := &state{Record: w.Record, entries: slices.Concat(base.entries, w.History), kept: base.kept}
	n.kept = max(n.kept, w.Record.Version-min(w.Record.Version, uint64(limit)))
	return n, true
}

// node is a store with what it knows.
type node struct {
	name      string
	proxy     *proxy
	store     *redisstore.Store
	limit     int
	known     map[statestore.Key]knowledge
	pending   map[statestore.Key]uint64 // lowest version that is done and not announced
	uncertain map[statestore.Key]bool   // marks there may be
}

type knowledge struct {
	statestore.Record
	at   time.Time
	seen time.Duration // model.moved
}

type model struct {
	t      *testing.T
	random *rand.Rand
	redis  *storetest.RedisServer
	nodes  []*node
	keys   []statestore.Key
	states map[statestore.Key][]*state
	begun  time.Time
	offset atomic.Int64  // of the nodes' clock, in ns
	jumped time.Duration // all steps of the clock together
	step   int
	serial int
	did    map[string]int
}

func newModel(t *testing.T, random *rand.Rand) *model {
	m := &model{t: t, random: random, redis: storetest.Redis(t), states: map[statestore.Key][]*state{}, begun: time.Now(), did: map[string]int{}}
	for _, thing := range []string{"a", "b", "c"} {
		for _, shadow := range []string{"", "x"} {
			key := statestore.Key{Thing: thing, Shadow: shadow}
			m.keys = append(m.keys, key)
			m.states[key] = []*state{absent}
		}
	}
	for i := range modelNodes {
		n := &node{name: fmt.Sprint("node", i), proxy: newProxy(t, m.redis), uncertain: map[statestore.Key]bool{}, pending: map[statestore.Key]uint64{}}
		m.nodes = append(m.nodes, n)
		m.open(n)
	}
	return m
}

// open starts a node, again if it runs, with another limit.
func (m *model) open(n *node) {
	old := n.store
	n.proxy.swallow.Store(nil) // Open gives up at the first fault
	limits := []int{100, 100, 40, 16, 5, -1}
	limit := limits[m.random.IntN(len(limits))]
	s, err := redisstore.Open(m.t.Context(), n.proxy.url,
		statestore.Options{HistoryLimit: limit, Now: m.now, Redo: chained}, redisstore.Options{Node: n.name})
	if err != nil {
		m.t.Fatalf("step %d: Open() = %v", m.step, err)
	}
	m.t.Cleanup(func() { _ = s.Close() })
	n.store, n.limit, n.known = s, max(limit, 0), map[statestore.Key]knowledge{}
	if old == nil {
		return
	}
	_ = old.Close()
	for _, key := range m.keys { // what was not noted as announced comes again
		n.uncertain[key] = true
	}
}

func (m *model) now() time.Time { return time.Now().Add(time.Duration(m.offset.Load())) }

// moved is how far the time has gone, forth and back.
func (m *model) moved() time.Duration { return time.Since(m.begun) + m.jumped }

// possible returns the states that a key may be in now.
func (m *model) possible(key statestore.Key) []*state {
	list := m.states[key]
	for _, s := range list {
		if s.ExpiredAt(time.Now()) && !slices.Contains(list, absent) {
			list = append(list, absent) // Redis has removed it
		}
	}
	m.states[key] = list
	return list
}

func (m *model) act() {
	n := m.nodes[m.random.IntN(len(m.nodes))]
	actions := []struct {
		name   string
		weight int
		do     func(*node)
	}{
		{"commit", 40, func(n *node) { m.commit(n, nil) }},
		{"race", 10, m.race},
		{"overtaken", 4, m.overtaken},
		{"load", 20, m.load},
		{"history", 10, m.history},
		{"shadows", 5, m.shadows},
		{"announced", 5, m.announced},
		{"marks", 3, m.marks},
		{"sweep", 1, m.sweep},
		{"restart", 1, m.open},
		{"clock", 3, func(*node) { m.moveClock() }},
		{"cut", 3, func(*node) { m.redis.Cut() }},
		{"flush", 2, func(*node) { m.redis.Do("SCRIPT FLUSH") }},
		{"swallow", 4, func(n *node) { nothing := func() {}; n.proxy.swallow.Store(&nothing) }},
	}
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	pick := m.random.IntN(total)
	for _, a := range actions {
		if pick -= a.weight; pick < 0 {
			m.did[a.name]++
			a.do(n)
			return
		}
	}
}

func (m *model) moveClock() {
	to := time.Duration(m.random.IntN(3000)-200) * time.Millisecond
	m.jumped += (to - time.Duration(m.offset.Swap(int64(to)))).Abs() + modelTrust
}

// write makes a write of key by n on what it knows.
func (m *model) write(n *node, key statestore.Key) statestore.Write {
	k := n.known[key]
	now := m.now()
	if k.ExpiredAt(now) {
		k = knowledge{}
	}
	w := statestore.Write{Key: key, Expect: k.Version, Seen: k.at.UnixMilli()}
	body := k.Body
	count := 1 + m.random.IntN(3)
	if m.random.IntN(20) == 0 {
		count += m.random.IntN(40)
	}
	for range count {
		m.serial++
		e := statestore.Entry{Version: k.Version + uint64(len(w.History)) + 1, Time: now.UnixMilli(), Body: fmt.Append(nil, "change ", m.serial)}
		w.History = append(w.History, e)
		body = chain(body, e)
	}
	w.Record = statestore.Record{Version: k.Version + uint64(count), Modified: now.UnixMilli(), Body: body}
	w.Redoable = k.Version > 0 && !k.Deleted && m.moved()-k.seen < modelTrust
	if m.random.IntN(6) == 0 {
		w.Redoable = false
		w.Record.Body = fmt.Append(nil, "whole ", m.serial)
	}
	if m.random.IntN(8) == 0 {
		w.Redoable = false
		w.Record.Deleted, w.Record.Body = true, fmt.Append(nil, "tombstone ", m.serial)
		w.Record.Expires = now.UnixMilli() + 6*modelTrust.Milliseconds() + m.random.Int64N(500)
	}
	if m.random.IntN(5) > 0 {
		w.Announce = k.Version + 1
	}
	return w
}

// batch is a Commit of a node and what came of it.
type batch struct {
	*node
	writes []statestore.Write
	errs   []error
	times  [2]time.Time // before and after
}

func (m *model) batch(n *node, keys []statestore.Key) *batch {
	b := &batch{node: n, times: [2]time.Time{m.now()}}
	for _, key := range keys {
		b.writes = append(b.writes, m.write(n, key))
	}
	return b
}

func (b *batch) commit(m *model) {
	if b.errs = b.store.Commit(m.t.Context(), b.writes); b.errs == nil {
		b.errs = make([]error, len(b.writes))
	}
	b.times[1] = m.now()
}

func (m *model) someKeys() []statestore.Key {
	var keys []statestore.Key
	for _, i := range m.random.Perm(len(m.keys))[:1+m.random.IntN(3)] {
		keys = append(keys, m.keys[i])
	}
	return keys
}

// commit lets n commit, at the same time as others.
func (m *model) commit(n *node, keys []statestore.Key, others ...*batch) {
	if keys == nil {
		keys = m.someKeys()
	}
	all := append([]*batch{m.batch(n, keys)}, others...)
	var wg sync.WaitGroup
	for _, b := range all {
		wg.Go(func() { b.commit(m) })
	}
	switch m.random.IntN(40) {
	case 0, 1, 2:
		m.did["cut meanwhile"]++
		m.redis.Cut()
	case 3:
		m.did["kill meanwhile"]++
		m.redis.Kill()
		m.redis.Start()
	}
	wg.Wait()
	m.settle(all)
}

// race lets two nodes commit the same at the same time.
func (m *model) race(n *node) {
	keys := m.someKeys()
	other := m.nodes[m.random.IntN(len(m.nodes))]
	if other == n {
		return
	}
	m.commit(n, keys, m.batch(other, keys))
}

// overtaken lets another node commit behind a commit whose answer is lost.
func (m *model) overtaken(n *node) {
	other := m.nodes[m.random.IntN(len(m.nodes))]
	if other == n {
		return
	}
	keys := m.someKeys()
	var mu sync.Mutex
	var second *batch
	overtake := func() {
		mu.Lock()
		defer mu.Unlock()
		records, err := other.store.Load(m.t.Context(), keys)
		if err != nil {
			return
		}
		for i, r := range records {
			other.known[keys[i]] = knowledge{r, m.now(), m.moved()}
		}
		second = m.batch(other, keys)
		second.commit(m)
	}
	first := m.batch(n, keys)
	n.proxy.swallow.Store(&overtake)
	first.commit(m)
	n.proxy.swallow.Store(nil)
	mu.Lock()
	defer mu.Unlock()
	all := []*batch{first}
	if second != nil {
		all = append(all, second)
	}
	m.settle(all)
}

// settle fails unless there is an order in which the batches, with the same keys, can have had their outcome.
func (m *model) settle(all []*batch) {
	m.t.Helper()
	doubt := false
	for i := range all[0].writes {
		key := all[0].writes[i].Key
		before := m.possible(key)
		after := through(before, all, i)
		if len(all) == 2 {
			after = append(after, through(before, []*batch{all[1], all[0]}, i)...)
		}
		if len(after) == 0 {
			for _, b := range all {
				w := b.writes[i]
				m.t.Errorf("step %d: %s commits %v %d to %d (deleted %t, redoable %t) = %v", m.step, b.name, key, w.Expect, w.Record.Version, w.Record.Deleted, w.Redoable, b.errs[i])
			}
			m.t.Fatalf("step %d: this cannot be from %s", m.step, describe(before))
		}
		m.states[key] = compact(after)
		for _, b := range all {
			doubt = b.learn(m, &b.writes[i], b.errs[i]) || doubt
		}
	}
	if doubt {
		m.did["doubt"]++
		m.redis.Cut() // what is still under way does not arrive later
	}
}

// through returns the states after write i of each batch, in this order, with its outcome.
func through(states []*state, order []*batch, i int) []*state {
	for _, b := range order {
		var next []*state
		for _, s := range states {
			next = append(next, b.outcomes(s, i)...)
		}
		states = next
	}
	return states
}

// outcomes returns the states that write i may have made of s.
func (b *batch) outcomes(s *state, i int) (list []*state) {
	err := b.errs[i]
	unknown := err != nil && !errors.Is(err, statestore.ErrConflict)
	if unknown {
		list = append(list, s)
	}
	for _, at := range b.times { // s may have expired meanwhile
		if n, done := s.after(&b.writes[i], b.limit, at); unknown && done || !unknown && done == (err == nil) {
			list = append(list, n)
		}
	}
	return list
}

func compact(list []*state) []*state {
	var kept []*state
	for _, s := range list {
		if !slices.ContainsFunc(kept, func(k *state) bool { return k.Version == s.Version && bytes.Equal(k.Body, s.Body) }) {
			kept = append(kept, s)
		}
	}
	return kept
}

func describe(list []*state) string {
	var b strings.Builder
	for _, s := range list {
		fmt.Fprintf(&b, "[version %d %q deleted %t expires %d, %d entries, kept %d]", s.Version, s.Body, s.Deleted, s.Expires, len(s.entries), s.kept)
	}
	return b.String()
}

// learn notes what a node knows by the outcome of a write, and reports whether it is in doubt.
func (n *node) learn(m *model, w *statestore.Write, err error) (doubt bool) {
	switch {
	case err == nil:
		n.known[w.Key] = knowledge{w.Record, time.UnixMilli(w.Record.Modified), m.moved()}
		if w.Announce != 0 && n.pending[w.Key] == 0 {
			n.pending[w.Key] = w.Announce
		}
	case errors.Is(err, statestore.ErrConflict):
		m.did["conflict"]++
		if m.random.IntN(4) > 0 { // else it stays behind
			n.look(m, w.Key)
		}
	default:
		n.uncertain[w.Key] = n.uncertain[w.Key] || w.Announce != 0
		return true
	}
	return false
}

func (n *node) look(m *model, keys ...statestore.Key) {
	m.t.Helper()
	at, moved := m.now(), m.moved()
	records, err := n.store.Load(m.t.Context(), keys)
	if err != nil {
		m.t.Fatalf("step %d: %s: Load(%v) = %v, want one of %s", m.step, n.name, keys, err, describe(m.possible(keys[0])))
	}
	for i, r := range records {
		n.known[keys[i]] = knowledge{r, at, moved}
	}
}

func (m *model) load(n *node) {
	keys := m.someKeys()
	at := m.now()
	n.look(m, keys...)
	for _, key := range keys {
		r := n.known[key].Record
		m.narrow(key, fmt.Sprintf("Load = version %d %q", r.Version, r.Body), func(s *state) bool {
			if r.Version == 0 {
				return s.Version == 0 || s.ExpiredAt(m.now())
			}
			return !s.ExpiredAt(at) && s.Version == r.Version && s.Deleted == r.Deleted && s.Expires == r.Expires &&
				s.Modified == r.Modified && bytes.Equal(s.Body, r.Body)
		})
	}
}

// narrow keeps the states of a key that agree with what was seen.
func (m *model) narrow(key statestore.Key, what string, agrees func(*state) bool) {
	m.t.Helper()
	before := m.possible(key)
	var kept []*state
	for _, s := range before {
		if agrees(s) {
			kept = append(kept, s)
		}
	}
	if len(kept) == 0 {
		m.t.Fatalf("step %d: %v: %s, want one of %s", m.step, key, what, describe(before))
	}
	m.states[key] = kept
}

func (m *model) history(n *node) {
	key := m.keys[m.random.IntN(len(m.keys))]
	at := m.now()
	limit := 1 + m.random.IntN(200)
	after := uint64(m.random.IntN(10))
	got, err := n.store.History(m.t.Context(), key, after, limit)
	if err != nil {
		m.t.Fatalf("step %d: %s: History(%v) = %v", m.step, n.name, key, err)
	}
	m.narrow(key, fmt.Sprintf("%s with limit %d: History(%d, %d) = %d entries %+v", n.name, n.limit, after, limit, len(got), got), func(s *state) bool {
		if s.Version == 0 || s.ExpiredAt(m.now()) && len(got) == 0 {
			return len(got) == 0
		}
		if s.ExpiredAt(at) {
			return false
		}
		// Those before kept may be there or not.
		oldest, rest := max(after, s.Version-min(s.Version, uint64(n.limit))), got
		for _, e := range s.entries {
			switch {
			case len(rest) > 0 && e.Version > oldest && sameEntry(e, rest[0]):
				rest = rest[1:]
			case len(got) == limit && len(rest) == 0:
				return true
			case e.Version > max(oldest, s.kept):
				return false
			}
		}
		return len(rest) == 0
	})
}

func sameEntry(a, b statestore.Entry) bool {
	return a.Version == b.Version && a.Time == b.Time && bytes.Equal(a.Body, b.Body)
}

// shadows compares the lists of things and of shadows.
func (m *model) shadows(n *node) {
	listed := map[statestore.Key]uint64{}
	things, err := n.store.Things(m.t.Context(), "", "", 10)
	if err != nil || !slices.IsSorted(things) {
		m.t.Fatalf("step %d: Things() = %q, %v", m.step, things, err)
	}
	for _, thing := range []string{"a", "b", "c"} {
		infos, err := n.store.Shadows(m.t.Context(), thing, "", true, 10)
		if err != nil || (len(infos) > 0) != slices.Contains(things, thing) {
			m.t.Fatalf("step %d: Things() = %q and Shadows(%q) = %+v, %v", m.step, things, thing, infos, err)
		}
		for _, info := range infos {
			listed[statestore.Key{Thing: thing, Shadow: info.Shadow}] = info.Version
		}
	}
	for _, key := range m.keys {
		m.narrow(key, fmt.Sprintf("listed with version %d", listed[key]), func(s *state) bool {
			if s.Version == 0 || s.Deleted {
				return listed[key] == 0
			}
			return listed[key] == s.Version
		})
		delete(listed, key)
	}
	if len(listed) > 0 {
		m.t.Fatalf("step %d: %v are listed", m.step, listed)
	}
}

func (m *model) announced(n *node) {
	for _, key := range m.someKeys() {
		k := n.known[key]
		if k.Version == 0 || n.uncertain[key] {
			// What is announced is known: below all versions there ever may be.
			n.look(m, key)
			k = n.known[key]
		}
		if err := n.store.Announced(m.t.Context(), []statestore.Mark{{Key: key, Version: k.Version + 1}}); err != nil {
			m.t.Fatalf("step %d: Announced() = %v", m.step, err)
		}
		if n.pending[key] <= k.Version {
			// A later write of this node would be known to it, unless the shadow was created again meanwhile.
			n.uncertain[key] = n.uncertain[key] || k.Deleted || n.pending[key] != 0
			delete(n.pending, key)
		}
	}
}

func (m *model) marks(n *node) {
	got := marks(m.t, n.store)
	for _, key := range m.keys {
		pending := n.pending[key]
		if v, ok := got[key]; pending != 0 && (!ok || v > pending) || ok && pending == 0 && !n.uncertain[key] {
			m.t.Fatalf("step %d: %s: mark of %v is %d, want %d", m.step, n.name, key, v, pending)
		}
	}
}

func (m *model) sweep(n *node) {
	if err := n.store.Sweep(m.t.Context()); err != nil {
		m.t.Fatalf("step %d: Sweep() = %v", m.step, err)
	}
}
