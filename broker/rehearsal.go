package broker

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/shadow"
)

// Bounds of rehearsals.
const (
	maxRehearsals = 8    // at a time: each costs as much as the mappings themselves
	maxHappenings = 4096 // that wait for one; it misses what comes then
)

// ErrRehearsals refuses a rehearsal: there are as many as may be, or there are no mappings at all.
var ErrRehearsals = errors.New("broker: no more rehearsals")

// Happening is something that mappings are about, for [Rehearsal.Tell].
type Happening struct {
	at      int64
	kind    HappeningKind
	message mapping.Message
	id      shadow.ID
	change  *shadow.Change
	tell    func(e *mapping.Engine, now int64) *mapping.Effects
}

// HappeningKind is what has happened.
type HappeningKind string

// The kinds of what happens.
const (
	HappeningMessage      HappeningKind = "message"      // a client has published, or its will was sent
	HappeningChange       HappeningKind = "change"       // of a shadow
	HappeningConnection   HappeningKind = "connection"   // its beginning or its end
	HappeningSubscription HappeningKind = "subscription" // a new one
	HappeningTime         HappeningKind = "time"         // something was due: a repetition, what min_interval has held back
)

// Rehearsed is what mappings would do because of something that has happened.
type Rehearsed struct {
	Time    int64 // ms since the epoch
	Kind    HappeningKind
	Message *mapping.Message // nil for what is no message
	Shadow  shadow.ID        // that has changed
	mapping.Explanation
}

// Rehearsal tells what mappings would do with what happens in the broker, and does nothing: no shadow changes and no
// message is sent. [Broker.Rehearse] makes it. All of it is for one goroutine, which gives what comes from C to Tell,
// calls Tick when Due says so, and Close at the end.
type Rehearsal struct {
	C <-chan Happening

	b       *Broker
	ctx     func() (context.Context, context.CancelFunc) // of reading a document
	given   *mapping.Set                                 // nil for what is in force
	r       *mapping.Rehearsal
	c       chan Happening
	dropped atomic.Int64
	timer   *time.Timer
}

// documentPatience is how long a rehearsal waits for a document, without which it goes on as if there was none.
const documentPatience = 5 * time.Second

// Rehearse begins a rehearsal of a set of mappings, of those in force for nil. It knows what these know of devices. ctx
// bounds the beginning; ErrRehearsals says that there are too many.
func (b *Broker) Rehearse(ctx context.Context, set *mapping.Set) (*Rehearsal, error) {
	r := &Rehearsal{b: b, given: set, c: make(chan Happening, maxHappenings), timer: time.NewTimer(0)}
	r.C = r.c
	r.ctx = func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(context.WithoutCancel(ctx), documentPatience)
	}
	if b.mapper == nil || !b.addTap(r) {
		return nil, ErrRehearsals
	}
	if err := r.begin(ctx); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// begin gives a new rehearsal what is known: devices, connections, retained messages.
func (r *Rehearsal) begin(ctx context.Context) error {
	b, now := r.b, r.b.now()
	set := r.given
	if set == nil {
		set = b.mapper.set.Load()
	}
	r.r = mapping.NewRehearsal(set, mapping.RehearsalOptions{
		Options: mapping.Options{Subscribed: b.mapper.subscribed}, Document: r.document, Limits: b.things.Limits(),
	})
	err := b.mapper.ask(ctx, func(e *mapping.Engine) { e.Bindings(r.r.Restore) })
	if err != nil {
		return err
	}
	r.r.Tell(func(e *mapping.Engine, _ int64) *mapping.Effects {
		for _, c := range b.clients.all() {
			c.tellMappings(e)
		}
		return &mapping.Effects{}
	}, now)
	for m := range b.retainedMessages {
		r.r.Retained(m, now)
	}
	r.r.Begin(now)
	r.arm()
	return nil
}

func (r *Rehearsal) document(id shadow.ID) *shadow.Document {
	ctx, cancel := r.ctx()
	defer cancel()
	doc, err := r.b.things.Document(ctx, id)
	if err != nil {
		return nil
	}
	return doc
}

// Tell tells what the mappings would do because of something that came from C.
func (r *Rehearsal) Tell(h Happening) (Rehearsed, error) {
	if r.given == nil && r.r.Set() != r.b.mapper.set.Load() { // others are in force now
		ctx, cancel := r.ctx()
		defer cancel()
		if err := r.begin(ctx); err != nil {
			return Rehearsed{}, err
		}
	}
	out := Rehearsed{Time: h.at, Kind: h.kind}
	switch h.kind {
	case HappeningMessage:
		out.Message = &h.message
		out.Explanation = r.message(h)
	case HappeningChange:
		out.Shadow, out.Explanation = h.id, r.r.Changed(h.id, h.change, h.at)
	case HappeningConnection, HappeningSubscription, HappeningTime:
		out.Explanation = r.r.Tell(h.tell, h.at)
	}
	r.arm()
	return out, nil
}

func (r *Rehearsal) message(h Happening) mapping.Explanation {
	if r.b.native {
		if x, ok := mapping.ExplainNative(h.message); ok {
			return x
		}
	}
	return r.r.Message(h.message, h.at)
}

// Due tells when Tick is to be called.
func (r *Rehearsal) Due() <-chan time.Time { return r.timer.C }

// Tick tells what the mappings would do because of the time.
func (r *Rehearsal) Tick() (Rehearsed, error) {
	return r.Tell(Happening{at: r.b.now(), kind: HappeningTime, tell: (*mapping.Engine).Tick})
}

// arm sets the timer to when something is due.
func (r *Rehearsal) arm() {
	next := r.r.Next()
	if next == 0 {
		r.timer.Stop()
		return
	}
	r.timer.Reset(max(time.Duration(next-r.b.now())*time.Millisecond, time.Millisecond))
}

// Dropped returns how much the rehearsal has missed because it was told too slowly.
func (r *Rehearsal) Dropped() int64 { return r.dropped.Load() }

// Close ends the rehearsal.
func (r *Rehearsal) Close() {
	r.timer.Stop()
	b := r.b
	b.mu.Lock()
	defer b.mu.Unlock()
	var rest []*Rehearsal
	for _, t := range *b.taps.Load() {
		if t != r {
			rest = append(rest, t)
		}
	}
	b.setTaps(rest)
}

func (b *Broker) addTap(r *Rehearsal) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []*Rehearsal
	if taps := b.taps.Load(); taps != nil {
		all = slices.Clone(*taps)
	}
	if len(all) >= maxRehearsals {
		return false
	}
	b.setTaps(append(all, r))
	return true
}

// setTaps sets who rehearses; nil, so that asking costs nothing, for nobody. mu is held.
func (b *Broker) setTaps(all []*Rehearsal) {
	if len(all) == 0 {
		b.taps.Store(nil)
		return
	}
	b.taps.Store(&all)
}

// rehearsing reports whether somebody wants to know what happens.
func (b *Broker) rehearsing() bool { return b.taps.Load() != nil }

// rehearse tells those who rehearse. It does not wait for them.
func (b *Broker) rehearse(h Happening) {
	taps := b.taps.Load()
	if taps == nil {
		return
	}
	h.at = b.now()
	for _, r := range *taps {
		select {
		case r.c <- h:
		default:
			r.dropped.Add(1)
		}
	}
}
