package broker

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"github.com/umbra-iot/umbra/broker/journal"
	"github.com/umbra-iot/umbra/broker/presence"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/statestore"
)

// Presence returns whether a client is connected that is a thing: whose client id, or the name of whose principal, is
// the name of the thing. Of things that were never there, and without Options.Presence, it is the zero State.
func (b *Broker) Presence(thing string) presence.State {
	p := b.present
	if p == nil {
		return presence.State{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s, _ := p.table.State(thing)
	return s
}

// attendance tells the table of presence of connections, and has stored what changes. Connections do not wait for
// that: after a crash nothing is connected, whatever was stored. A nil attendance does nothing.
type attendance struct {
	b *Broker

	mu     sync.Mutex // guards what follows; a leaf, but for the journal
	table  *presence.Table
	queued bool                       // the journal knows
	kept   map[string]*presence.Saved // of the last run, while it is read
}

func newAttendance(b *Broker, things int) *attendance {
	return &attendance{b: b, table: presence.New(things), kept: map[string]*presence.Saved{}}
}

// begin notes that c has a session, which old had until now; old is nil for nobody. The mutex of the client is held.
func (p *attendance) begin(c, old *conn, now int64) {
	if p == nil {
		return
	}
	c.presence = &presence.Session{Epoch: c.versionNumber, Since: now, Things: c.things()}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.table.Begin(*c.presence)
	if old != nil {
		p.table.End(*old.presence, now, reasonDuplicate)
	}
	p.touch()
}

// end notes that c has no session any more. The mutex of the client is held.
func (p *attendance) end(c *conn, now int64, reason string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.table.End(*c.presence, now, reason)
	p.touch()
}

// touch has changes stored. mu is held.
func (p *attendance) touch() {
	if p.b.journal == nil {
		p.table.Changes() // nobody else asks for them
		return
	}
	if !p.queued {
		p.queued = true
		p.b.journal.Touch(p)
		p.b.journal.Kick()
	}
}

// things are the names of the things that the client is.
func (c *conn) things() []string {
	var names []string
	if !c.assignedID {
		names = append(names, c.clientID)
	}
	if !c.principal.IsAnonymous() {
		names = append(names, c.principal.Name)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return shadow.ID{Thing: name}.Validate() != nil })
	return slices.Compact(names)
}

// Drain implements journal.Source.
func (p *attendance) Drain(b *journal.Batch) {
	p.mu.Lock()
	changes := p.table.Changes()
	p.queued = false
	p.mu.Unlock()
	for _, thing := range slices.Sorted(maps.Keys(changes)) {
		it := statestore.Item{Space: spacePresence, Partition: retainedPartition(thing), Key: []byte(thing)}
		if s := changes[thing]; s != nil {
			value, err := json.Marshal(s)
			if err != nil {
				p.b.log.Error("cannot encode the presence of a thing", "thing", thing, "err", err)
				continue
			}
			it.Value = value
		}
		b.Items = append(b.Items, it)
	}
}

// Stored implements journal.Source.
func (p *attendance) Stored() {}

// restore takes what the last run stored of a thing.
func (p *attendance) restore(it statestore.Item) error {
	if p == nil {
		return nil
	}
	s := &presence.Saved{}
	if err := json.Unmarshal(it.Value, s); err != nil {
		return errStored
	}
	p.kept[string(it.Key)] = s
	return nil
}

// restored comes after the last restore. What was connected has been lost with the last run.
func (p *attendance) restored(now int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	epoch := p.table.Restore(p.kept, now, reasonLost)
	p.kept = nil
	p.b.lifecycle.Store(max(p.b.lifecycle.Load(), epoch)) // the clock may have gone back
	p.touch()
}
