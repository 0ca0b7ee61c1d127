package things

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/statestore"
)

const (
	// maxCounts is for how many things it is remembered how many named shadows they have.
	maxCounts = 10_000
	// maxCountAge is how long a count is trusted, in ms, when other processes make and delete shadows as well.
	maxCountAge = 1000
	// maxLists is how many lists a worker reads at a time.
	maxLists = 16
)

// population bounds how many named shadows a thing has; of the classic one there is one. It is asked when one is made or
// deleted, and at no other time. A nil population sets no bound.
//
// The named shadows of a thing are those that the store lists, which are counted, and those that are being made or deleted,
// which are known by their names: a list that was read meanwhile may have them or not.
type population struct {
	limit int
	store statestore.Store

	mu     sync.Mutex // guards what follows
	things map[string]*count
}

// count is what is known of the shadows of one thing.
type count struct {
	known  bool
	n      int                 // shadows that are there, without those of moving; if known
	more   bool                // the store has more than n: it was not asked for all
	at     int64               // ms since the epoch when the store was asked
	moving map[string]struct{} // names of shadows whose creation or deletion is under way; each has its place
	moved  uint64              // ends of such changes
	asking int                 // how many are reading the list of the store
}

func newPopulation(limit int, store statestore.Store) *population {
	if limit == 0 {
		return nil
	}
	return &population{limit: limit, store: store, things: map[string]*count{}}
}

// enter takes a place for a shadow that is about to be made, and reports false when there is none. The caller has to
// say by settle or forget what became of it. An error means that the store does not tell.
func (p *population) enter(ctx context.Context, id shadow.ID, now int64) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.of(id.Thing)
	defer p.drop(id.Thing, c)
	if _, ok := c.moving[id.Name]; ok {
		return true, nil
	}
	if err := p.ask(ctx, id.Thing, c, now); err != nil {
		return false, err
	}
	if c.n+len(c.moving) >= p.limit {
		return false, nil
	}
	c.move(id.Name)
	return true, nil
}

// look makes the counts of things known, some at a time. Where it fails enter will tell.
func (p *population) look(ctx context.Context, things []string, now int64) {
	var wg sync.WaitGroup
	turns := make(chan struct{}, maxLists)
	for _, thing := range things {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			p.mu.Lock()
			defer p.mu.Unlock()
			c := p.of(thing)
			_ = p.ask(ctx, thing, c, now)
			p.drop(thing, c)
		})
	}
	wg.Wait()
}

// leave keeps the place of a shadow that is about to be deleted, until settle or forget.
func (p *population) leave(id shadow.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.of(id.Thing)
	if _, ok := c.moving[id.Name]; ok {
		return
	}
	c.n--
	c.move(id.Name)
}

// settle tells whether a shadow of enter or leave is there now.
func (p *population) settle(id shadow.ID, there bool) {
	p.end(id, func(c *count) {
		if there {
			c.n++
		}
		c.known = c.known && (there || !c.more)
	})
}

// forget tells that nobody knows what became of a shadow of enter or leave: the store has to be asked.
func (p *population) forget(id shadow.ID) {
	p.end(id, func(c *count) { c.known = false })
}

func (p *population) end(id shadow.ID, fn func(*count)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.of(id.Thing)
	delete(c.moving, id.Name)
	c.moved++
	fn(c)
	p.drop(id.Thing, c)
}

// of returns the count of a thing. It makes room for a new one.
func (p *population) of(thing string) *count {
	if c := p.things[thing]; c != nil {
		return c
	}
	if len(p.things) >= maxCounts {
		for name, c := range p.things {
			if c.idle() {
				delete(p.things, name)
				break
			}
		}
	}
	c := &count{moving: map[string]struct{}{}}
	p.things[thing] = c
	return c
}

// drop forgets a count that says nothing.
func (p *population) drop(thing string, c *count) {
	if !c.known && c.idle() && p.things[thing] == c {
		delete(p.things, thing)
	}
}

// ask makes the count known. p.mu is held, but not while the store is asked: when a change has ended meanwhile
// nobody can tell whether the list has it, and the store is asked again, until ctx ends.
func (p *population) ask(ctx context.Context, thing string, c *count, now int64) error {
	c.asking++
	defer func() { c.asking-- }()
	for !p.trusted(c, now) {
		moved := c.moved
		p.mu.Unlock()
		infos, err := p.store.Shadows(ctx, thing, "", false, p.limit+1)
		p.mu.Lock()
		if err != nil {
			return fmt.Errorf("things: count the shadows of %s: %w", thing, err)
		}
		if c.moved == moved {
			c.take(infos, p.limit, now)
		}
	}
	return nil
}

func (p *population) trusted(c *count, now int64) bool {
	age := now - c.at
	return c.known && (!p.store.Shared() || max(age, -age) < maxCountAge)
}

// take counts a list.
func (c *count) take(infos []statestore.Info, limit int, now int64) {
	c.known, c.more, c.at, c.n = true, len(infos) > limit, now, 0
	for i := range infos {
		if _, ok := c.moving[infos[i].Shadow]; !ok {
			c.n++
		}
	}
}

func (c *count) move(name string) { c.moving[name] = struct{}{} }

// idle reports that nobody is about to use the count.
func (c *count) idle() bool { return len(c.moving) == 0 && c.asking == 0 }

// look has the shadows counted of all things of a round of which one may be made: one after the other they might take
// longer than requests wait for the store.
func (w *worker) look(jobs []*job, now int64) {
	if w.s.population == nil {
		return
	}
	var things []string
	for _, j := range jobs {
		if j.lane.id.Name != "" && liveVersion(j.lane.doc) == 0 && slices.ContainsFunc(j.calls, (*call).updates) {
			things = append(things, j.lane.id.Thing)
		}
	}
	if len(things) < 2 {
		return // admit asks soon enough
	}
	slices.Sort(things)
	w.asking = w.s.storeContext()
	w.s.population.look(w.asking, slices.Compact(things), now)
}

// updates reports whether a call is an update that may be done.
func (c *call) updates() bool {
	return c.kind == kindRequest && c.req.Op == shadow.OpUpdate && c.failed == nil
}

// admit takes a place for what a call is about to make or delete, or says why there is none.
func (w *worker) admit(j *job, c *call, now int64) *shadow.Error {
	p := w.s.population
	switch {
	case p == nil || j.lane.id.Name == "":
		return nil
	case c.change.After.Deleted():
		p.leave(j.lane.id)
	case liveVersion(c.change.Before) != 0:
		return nil
	default:
		if w.asking == nil {
			w.asking = w.s.storeContext()
		}
		ok, err := p.enter(w.asking, j.lane.id, now)
		if err != nil {
			w.s.log.Error("cannot count shadows", "err", err, "thing", j.lane.id.Thing)
			return internalFailure(c.token)
		}
		if !ok {
			return &shadow.Error{Code: 429, Message: "The thing has as many named shadows as it may have (" + strconv.Itoa(p.limit) + ")", Token: c.token}
		}
	}
	j.lane.moving = true
	return nil
}

// moved ends what admit has begun. While the outcome of a commit is unknown the place stays taken.
func (w *worker) moved(l *lane, known bool) {
	if !l.moving || l.doubt != 0 {
		return
	}
	l.moving = false
	if known {
		w.s.population.settle(l.id, liveVersion(l.doc) != 0)
	} else {
		w.s.population.forget(l.id)
	}
}
