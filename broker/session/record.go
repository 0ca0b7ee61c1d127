package session

import "slices"

// Item is an entry of the stored form of a session, in a partition of its own. A nil Value deletes the item; a nil
// Key too deletes all items of the session. Keys begin with a lower-case letter up to 's'; the rest are free for the
// caller.
type Item struct {
	Key, Value []byte
}

// recorder knows how what is stored of a session differs from the session.
type recorder struct {
	on      bool     // the session is stored
	kept    bool     // something of it, or of one before it, is in the store
	wipe    bool     // that has to go, before the changes
	meta    bool     // expiry, or whether there is a connection, has changed
	changes []change // in order
	drains  uint64   // number of calls of Drain
	stored  uint64   // drains that are known to be stored
	wanted  uint64   // the latest drain that a packet waits for
}

type changeKind byte

const (
	changeNone      changeKind = iota // taken back
	changeMessage                     // a message begins to be held
	changeNoMessage                   // and is held no more
	changeFlight                      // a stored message gets an identifier, or its PUBREC came
	changeNoFlight
	changeSubscription
	changeInbound
	changeScan
)

// change is one thing that the store does not know yet.
type change struct {
	kind     changeKind
	released bool
	id       uint16
	seq      uint64
	delivery Delivery
	filter   string
}

// idleChanges is the largest number of changes for which memory is kept between two calls of Drain.
const idleChanges = 64

// next is the number of the Drain that takes what changes now.
func (r *recorder) next() uint64 { return r.drains + 1 }

func (r *recorder) add(c change) {
	if r.on {
		r.changes = append(r.changes, c)
	}
}

// stop makes the session one that is not stored.
func (r *recorder) stop() {
	*r = recorder{kept: r.kept, wipe: r.kept, drains: r.drains, stored: r.stored}
}

// durable reports whether the Drain numbered n, 0 for none, is stored.
func (r *recorder) durable(n uint64) bool { return !r.on || n <= r.stored }

// Changed reports whether there is something to [Session.Drain].
func (s *Session) Changed() bool { return s.rec.wipe || s.rec.meta || len(s.rec.changes) > 0 }

// Waits reports whether [Session.Next] has something to say as soon as what has changed is stored.
func (s *Session) Waits() bool { return s.rec.wanted > s.rec.stored && s.rec.on }

// Drain appends to items what has to be stored for the session to be as it is, in order. Keys and values are made in buf, and buf is returned for the next call; they stay
// valid until its contents are overwritten. The caller has to store the items whole and then call [Session.Stored].
func (s *Session) Drain(buf []byte, items []Item) ([]byte, []Item) {
	r := &s.rec
	if r.wipe {
		items = append(items, Item{})
		r.wipe, r.kept = false, false
	}
	r.drains++
	if !r.on {
		return buf, items
	}
	e := encoder{buf, items}
	if r.meta {
		e.meta(s)
		r.meta = false
	}
	for i := range r.changes {
		e.change(s, &r.changes[i])
	}
	r.kept = true
	if cap(r.changes) > idleChanges {
		r.changes = nil
	}
	clear(r.changes)
	r.changes = r.changes[:0]
	return e.buf, e.items
}

// Stored says that everything that was drained is durable.
func (s *Session) Stored() { s.rec.stored = s.rec.drains }

// Forget makes nothing of the session be stored any more, for it is over.
func (s *Session) Forget() { s.rec.stop() }

// holds records that the session begins to hold h.
func (r *recorder) holds(h *held) {
	if !r.on {
		return
	}
	h.drain, h.change = r.next(), len(r.changes)
	r.add(change{kind: changeMessage, seq: h.seq, delivery: h.Delivery})
}

// drops records that the session holds h no more.
func (r *recorder) drops(h *held) {
	if r.pending(h) {
		r.changes[h.change] = change{}
		return
	}
	r.add(change{kind: changeNoMessage, seq: h.seq})
}

// pending reports whether h has not been drained since it came.
func (r *recorder) pending(h *held) bool { return r.on && h.drain == r.next() }

// sends records that f has an identifier now. A QoS 2 message may be sent once that is stored: a client that gets it
// with another identifier takes it for another message.
func (r *recorder) sends(f *flight) {
	if !r.on {
		return
	}
	if f.QoS == 2 {
		f.after = r.next()
	}
	if r.pending(&f.held) {
		r.changes[f.change].id = f.id
		return
	}
	f.noted = true
	r.add(change{kind: changeFlight, seq: f.seq, id: f.id})
}

// releases records that only the PUBREL of f is left. It may be sent once that is stored: a client that has taken a
// PUBREL takes the PUBLISH for a new message.
func (r *recorder) releases(f *flight) {
	if !r.on {
		return
	}
	r.drops(&f.held)
	f.noted, f.after = true, r.next()
	r.add(change{kind: changeFlight, seq: f.seq, id: f.id, released: true})
}

// finishes records that f is over.
func (r *recorder) finishes(f *flight) {
	if !f.released {
		r.drops(&f.held)
	}
	if f.noted {
		r.add(change{kind: changeNoFlight, seq: f.seq})
	}
}

// subscribes records that the subscription to filter is another, or gone.
func (r *recorder) subscribes(filter string) { r.filter(changeSubscription, filter) }

// scans records that the scan for filter has got on, or is over.
func (r *recorder) scans(filter string) { r.filter(changeScan, filter) }

// filter records a change of which Drain finds out what has become of it.
func (r *recorder) filter(kind changeKind, filter string) {
	same := func(c change) bool { return c.kind == kind && c.filter == filter }
	if !slices.ContainsFunc(r.changes, same) {
		r.add(change{kind: kind, filter: filter})
	}
}
