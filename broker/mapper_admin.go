package broker

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/broker/retained"
	"github.com/umbra-iot/umbra/broker/wire"
)

// MappingInfo describes a mapping that is in force.
type MappingInfo struct {
	Name   string `json:"name"`
	Source string `json:"source"` // the file that it is from, or the name of one that comes with the program
	Things int    `json:"things"`
	Errors int64  `json:"errors"` // since the start
}

// Mappings lists the mappings that are in force.
func (b *Broker) Mappings(ctx context.Context) ([]MappingInfo, error) {
	out := []MappingInfo{}
	if b.mapper == nil {
		return out, nil
	}
	counts := b.MappingErrors().Counts
	err := b.mapper.ask(ctx, func(e *mapping.Engine) {
		for _, m := range e.Set().Mappings() {
			in := MappingInfo{Name: m.Name(), Source: m.File(), Things: e.Count(m.Name())}
			for _, n := range counts[m.Name()] {
				in.Errors += n
			}
			out = append(out, in)
		}
	})
	return out, err
}

// MappedDevices returns the devices that a thing is made of, with the states of their commands.
func (b *Broker) MappedDevices(ctx context.Context, thing string) ([]mapping.DeviceStatus, error) {
	out := []mapping.DeviceStatus{}
	if b.mapper == nil {
		return out, nil
	}
	err := b.mapper.ask(ctx, func(e *mapping.Engine) { out = append(out, e.Devices(thing)...) })
	return out, err
}

// Orphan is a retained message that a mapping would take, of a thing that there is not.
type Orphan struct {
	Topic   string `json:"topic"`
	Mapping string `json:"mapping"`
	Thing   string `json:"thing"`
}

// Orphans lists up to limit retained messages that mappings would take and that no thing owns, by topic.
func (b *Broker) Orphans(ctx context.Context, limit int) ([]Orphan, error) {
	out := []Orphan{}
	if b.mapper == nil {
		return out, nil
	}
	for after := ""; ; {
		page := b.retained.Match("#", after, scanPage, b.now())
		err := b.mapper.ask(ctx, func(e *mapping.Engine) { out = b.mapper.appendOrphans(out, page.Messages, e) })
		if err != nil {
			return nil, err
		}
		if after = page.Next; page.Done || len(out) >= limit {
			return out[:min(len(out), limit)], nil
		}
	}
}

// appendOrphans appends those of some retained messages that no thing owns.
func (p *mapper) appendOrphans(out []Orphan, messages []retained.Message, e *mapping.Engine) []Orphan {
	for _, m := range messages {
		prepared := p.set.Load().Prepare(mapping.Message{Topic: m.Topic, Payload: m.Payload, Retain: true, Replayed: true})
		if prepared == nil {
			continue
		}
		owners := e.Owners(prepared)
		if len(owners) > 0 && !slices.ContainsFunc(owners, func(o mapping.Owner) bool { return o.Bound }) {
			out = append(out, Orphan{Topic: m.Topic, Mapping: owners[0].Mapping, Thing: owners[0].ID.Thing})
		}
	}
	return out
}

// ClearOrphan removes a retained message if it is an orphan still; false says that it is none.
func (b *Broker) ClearOrphan(ctx context.Context, name string) (bool, error) {
	m, ok := b.retained.Get(name, b.now())
	if b.mapper == nil || !ok {
		return false, nil
	}
	prepared := b.mapper.set.Load().Prepare(mapping.Message{Topic: name, Payload: m.Payload, Retain: true, Replayed: true})
	if prepared == nil {
		return false, nil
	}
	orphan := false
	err := b.mapper.ask(ctx, func(e *mapping.Engine) {
		owners := e.Owners(prepared)
		orphan = len(owners) > 0 && !slices.ContainsFunc(owners, func(o mapping.Owner) bool { return o.Bound })
	})
	if err != nil || !orphan {
		return false, err
	}
	b.route(wire.NewMessage(wire.Message{Topic: name, QoS: 1, Retain: true}), publisher{})
	return true, nil
}

// ask looks at the engine, between two things that happen.
func (p *mapper) ask(ctx context.Context, look func(e *mapping.Engine)) error {
	done := make(chan struct{})
	p.post(occurrence{tell: func(e *mapping.Engine, _ int64) *mapping.Effects {
		look(e)
		close(done)
		return &mapping.Effects{}
	}})
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("broker: mappings are busy: %w", context.Cause(ctx))
	}
}

// MappingErrors is what has gone wrong in mappings since the start.
type MappingErrors struct {
	Counts map[string]map[mapping.Code]int64 `json:"counts"` // by mapping and kind
	Last   []MappingFailure                  `json:"last"`   // the oldest first
}

// MappingStats counts what mappings have done since the start, and the commands that there are.
type MappingStats struct {
	Messages int64                          // that rules are about
	Updates  int64                          // of shadows that messages have made
	Sent     int64                          // commands, repetitions included
	Commands map[mapping.CommandState]int64 // of devices that are known, by their state now
	Errors   map[string]int64               // by code
}

// MappingStats returns what mappings have done.
func (b *Broker) MappingStats() MappingStats {
	out := MappingStats{Errors: map[string]int64{}, Commands: map[mapping.CommandState]int64{}}
	if b.mapper == nil {
		return out
	}
	out.Messages, out.Updates, out.Sent = b.mapper.messages.Load(), b.mapper.updates.Load(), b.mapper.sent.Load()
	counts := b.mapper.commands.Load()
	for i, state := range mapping.CommandStates() {
		out.Commands[state] = counts[i]
	}
	for _, counts := range b.MappingErrors().Counts {
		for code, n := range counts {
			out.Errors[string(code)] += n
		}
	}
	return out
}

// MappingErrors returns what has gone wrong in mappings.
func (b *Broker) MappingErrors() MappingErrors {
	out := MappingErrors{Counts: map[string]map[mapping.Code]int64{}, Last: []MappingFailure{}}
	if b.mapper == nil {
		return out
	}
	r := &b.mapper.report
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, counts := range r.counts {
		out.Counts[name] = maps.Clone(counts)
	}
	out.Last = append(out.Last, slices.Clone(r.last)...)
	return out
}
