package broker

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/umbra-iot/umbra/broker/journal"
	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/statestore"
)

// keep has bindings stored.
func (p *mapper) keep(changed, gone []*mapping.Saved) {
	if p.b.journal == nil || len(changed)+len(gone) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range changed {
		p.changed[s.Key()] = s
	}
	for _, s := range gone {
		p.changed[s.Key()] = nil
	}
	if !p.queued {
		p.queued = true
		p.b.journal.Touch(p)
	}
}

// Drain implements journal.Source.
func (p *mapper) Drain(b *journal.Batch) {
	p.mu.Lock()
	changed := p.changed
	p.changed, p.queued = map[string]*mapping.Saved{}, false
	p.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(changed)) {
		it := statestore.Item{Space: spaceMappings, Partition: retainedPartition(key), Key: []byte(key)}
		if s := changed[key]; s != nil {
			value, err := json.Marshal(s)
			if err != nil {
				p.log.Error("cannot encode a device of a mapping", "thing", s.Thing, "err", err)
				continue
			}
			it.Value = value
		}
		b.Items = append(b.Items, it)
	}
}

// Stored implements journal.Source.
func (p *mapper) Stored() {}

// restore takes a device of the last run.
func (p *mapper) restore(it statestore.Item) error {
	if p == nil {
		return nil
	}
	var s mapping.Saved
	if err := json.Unmarshal(it.Value, &s); err != nil {
		return errStored
	}
	p.engine.Restore(&s)
	return nil
}
