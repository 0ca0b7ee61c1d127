package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/umbra-iot/umbra/broker/mapping"
)

// UseMappings puts another set of mappings in force, between two messages: none is taken by rules of both sets. What
// is in both sets, as the same *Mapping, is not disturbed; [mapping.Engine.Use] says what of others is kept. It
// returns when retained messages have told their state to what is new, or when ctx ends, and then the change is made
// all the same. It needs Options.Mappings, which may be an empty set, and [Broker.Start].
func (b *Broker) UseMappings(ctx context.Context, set *mapping.Set) error {
	if b.mapper == nil {
		return errors.New("broker: there are no mappings")
	}
	done := make(chan struct{})
	b.mapper.post(occurrence{tell: func(e *mapping.Engine, now int64) *mapping.Effects {
		defer close(done)
		return b.mapper.replace(e, set, now)
	}})
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("broker: mappings are busy: %w", context.Cause(ctx))
	}
}

// replace does the work of UseMappings in the goroutine of the engine.
func (p *mapper) replace(e *mapping.Engine, set *mapping.Set, now int64) *mapping.Effects {
	p.set.Store(set)
	if !p.used.Load() {
		p.used.Store(len(set.Mappings()) > 0)
		for _, c := range p.b.clients.all() {
			c.tellMappings(e)
		}
	}
	p.apply(e.Use(set, now), nil)
	for m := range p.b.retainedMessages {
		if prepared := set.Prepare(m); prepared != nil {
			p.apply(e.Replay(prepared, now), nil)
		}
	}
	return e.Started(now)
}

// tellMappings tells the engine of a connection that there was before the first mapping.
func (c *client) tellMappings(e *mapping.Engine) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		e.Connected(c.conn.mappingSession())
	}
}
