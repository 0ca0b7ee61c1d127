// Package presence keeps which things are connected, since when, and why their last connection ended. It is a table
// without clock, I/O and locks; package broker tells it of connections and keeps what it says has changed.
//
// A thing may have several connections at the same time: one that is half open beside the one that has followed it, or
// several clients of one principal. Each has an epoch, and what is said of one epoch never counts for another: a thing
// is connected while any of its epochs lives, in whatever order their ends are told.
package presence

import (
	"container/list"
	"maps"
	"slices"
)

// Session is one connection of a client.
type Session struct {
	Epoch  int64    // no two connections have the same; a later one has a greater one
	Since  int64    // ms since the epoch
	Things []string // that the client is
}

// State is what is known of a thing.
type State struct {
	Connected bool
	Since     int64  // ms since the epoch: begin of the newest connection that lives, or end of the last one
	Reason    string // why the last connection ended; "" while connected
}

// Saved is the stored form of what is known of a thing.
type Saved struct {
	Live   []Link `json:"live,omitempty"`   // the oldest first
	Since  int64  `json:"since,omitempty"`  // end of the last connection, ms since the epoch
	Reason string `json:"reason,omitempty"` // of that end
}

// Link is a connection that lives.
type Link struct {
	Epoch int64 `json:"epoch"`
	Since int64 `json:"since"` // ms since the epoch
}

// Table is what is known of all things. Its methods are not safe for use by several goroutines.
type Table struct {
	limit   int
	things  map[string]*record
	gone    *list.List // names of things without a connection, the one that left first at the front
	changed map[string]struct{}
}

type record struct {
	Saved
	place *list.Element // in gone, nil while connected
}

// New returns an empty table. Of things that are not connected it remembers as many as limit, and forgets the one that
// left first.
func New(limit int) *Table {
	return &Table{limit: limit, things: map[string]*record{}, gone: list.New(), changed: map[string]struct{}{}}
}

// Begin notes that a connection has begun.
func (t *Table) Begin(s Session) {
	for _, thing := range s.Things {
		r := t.things[thing]
		if r == nil {
			r = &record{}
			t.things[thing] = r
		}
		r.Live = append(r.Live, Link{Epoch: s.Epoch, Since: s.Since})
		slices.SortFunc(r.Live, func(a, b Link) int { return int(min(max(a.Epoch-b.Epoch, -1), 1)) })
		if r.place != nil {
			t.gone.Remove(r.place)
			r.place = nil
		}
		t.changed[thing] = struct{}{}
	}
}

// End notes that a connection has ended, for a reason. A connection that does not live is left alone.
func (t *Table) End(s Session, now int64, reason string) {
	for _, thing := range s.Things {
		r := t.things[thing]
		if r == nil {
			continue
		}
		i := slices.IndexFunc(r.Live, func(l Link) bool { return l.Epoch == s.Epoch })
		if i < 0 {
			continue
		}
		r.Live = slices.Delete(r.Live, i, i+1)
		if len(r.Live) == 0 {
			t.left(thing, r, now, reason)
		}
		t.changed[thing] = struct{}{}
	}
}

// left notes that the last connection of a thing has ended.
func (t *Table) left(thing string, r *record, now int64, reason string) {
	r.Live, r.Since, r.Reason = nil, now, reason
	r.place = t.gone.PushBack(thing)
	t.forget()
}

// forget drops the things that left first, as far as there are too many.
func (t *Table) forget() {
	for t.gone.Len() > t.limit {
		thing, _ := t.gone.Remove(t.gone.Front()).(string)
		delete(t.things, thing)
		t.changed[thing] = struct{}{}
	}
}

// State returns what is known of a thing; false when that is nothing.
func (t *Table) State(thing string) (State, bool) {
	r := t.things[thing]
	if r == nil {
		return State{}, false
	}
	if n := len(r.Live); n > 0 {
		return State{Connected: true, Since: r.Live[n-1].Since}, true
	}
	return State{Since: r.Since, Reason: r.Reason}, true
}

// Changes returns what has changed since the last call, by thing: nil for one that is forgotten.
func (t *Table) Changes() map[string]*Saved {
	changes := make(map[string]*Saved, len(t.changed))
	for thing := range t.changed {
		changes[thing] = nil
		if r := t.things[thing]; r != nil {
			changes[thing] = &Saved{Live: slices.Clone(r.Live), Since: r.Since, Reason: r.Reason}
		}
	}
	clear(t.changed)
	return changes
}

// Restore puts what another run has left into a table that has had no connection yet. Of what that run knew as
// connected the end was not seen: it is now, for a reason. It returns the greatest epoch among them, 0 for none.
func (t *Table) Restore(saved map[string]*Saved, now int64, reason string) (epoch int64) {
	names := slices.SortedFunc(maps.Keys(saved), func(a, b string) int { return leftFirst(saved[a], saved[b]) })
	for _, thing := range names {
		s := saved[thing]
		r := &record{Saved: *s}
		t.things[thing] = r
		if len(s.Live) == 0 {
			r.place = t.gone.PushBack(thing)
			t.forget()
			continue
		}
		epoch = max(epoch, s.Live[len(s.Live)-1].Epoch)
		t.changed[thing] = struct{}{}
		t.left(thing, r, now, reason)
	}
	return epoch
}

// leftFirst orders what is known of things by when they left; those that did not are last.
func leftFirst(a, b *Saved) int {
	if la, lb := len(a.Live) > 0, len(b.Live) > 0; la != lb {
		if lb {
			return -1
		}
		return 1
	}
	return int(min(max(a.Since-b.Since, -1), 1))
}
