package broker

import (
	"context"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/broker/retained"
)

// AwaitMappings waits until the mappings have done everything that has happened until now.
func (b *Broker) AwaitMappings(ctx context.Context) error { return b.awaitMappings(ctx) }

// NextMapping returns when the mappings have something to do, 0 for never; for tests that move the clock.
func (b *Broker) NextMapping() int64 {
	next := make(chan int64, 1)
	b.mapper.post(occurrence{tell: func(e *mapping.Engine, _ int64) *mapping.Effects {
		next <- e.Next()
		return &mapping.Effects{}
	}})
	return <-next
}

// TickMappings does what is due now.
func (b *Broker) TickMappings() { b.mapper.tick() }

// Settled reports whether nothing has to be stored.
func (b *Broker) Settled() (settled bool) {
	called := make(chan error, 1)
	b.journal.After(func(err error) { called <- err })
	return len(called) == 1
}

// ParseStored reads an item of the store as each kind of item that there is.
func ParseStored(clientID string, value []byte) {
	_, _, _ = parseWill(clientID, value)
	_, _ = parseOwner(clientID, value)
	_, _ = parseRetained(value)
}

// Retained returns a retained message as it is after it was stored.
func Retained(m retained.Message) (retained.Message, error) {
	return parseRetained(appendRetained(nil, m))
}
