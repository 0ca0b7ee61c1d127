package broker

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/umbra-iot/umbra/broker/retained"
	"github.com/umbra-iot/umbra/broker/wire"
)

// systemPrefix begins the topics on which the server tells how it is. Their names
// are those of Mosquitto.
const systemPrefix = "$SYS/broker/"

// system keeps the messages of these topics up to date. They are like retained
// ones of QoS 0, but are no part of the retained store: they are never stored,
// count for no limit, and no client can change them.
type system struct {
	store   *retained.Store
	started time.Time

	mu    sync.Mutex // guards what follows
	timer *time.Timer
	ended bool
}

// keepSystem publishes what has changed, now and every Limits.SystemInterval.
func (b *Broker) keepSystem() {
	if !b.begin() {
		return
	}
	defer b.tasks.Done()
	now := b.now()
	for name, value := range b.systemValues() {
		m := wire.NewMessage(wire.Message{Topic: systemPrefix + name, Payload: []byte(value), Retain: true})
		if old, ok := b.system.store.Get(m.Topic, now); ok && string(old.Payload) == value {
			continue
		}
		if b.system.store.Set(m, "", now) == nil { // which has no limits
			b.deliver(m, nil)
		}
	}
	b.system.again(b.limits.SystemInterval, b.keepSystem)
}

// again calls f after interval, unless stop comes before.
func (s *system) again(interval time.Duration, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.timer = time.AfterFunc(interval, f)
	}
}

func (s *system) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if s.timer != nil {
		s.timer.Stop()
	}
}

// systemValues are the messages by the rest of their topics.
func (b *Broker) systemValues() map[string]string {
	n := b.Stats()
	values := map[string]string{
		"version": "umbra " + b.version,
		"uptime":  fmt.Sprintf("%d seconds", int64(b.clock().Sub(b.system.started).Seconds())),
	}
	for name, count := range map[string]int64{
		"clients/connected":         n.Connections,
		"clients/disconnected":      max(0, n.Sessions-n.Connections), // both change while they are counted
		"clients/total":             n.Sessions,
		"subscriptions/count":       n.Subscriptions,
		"retained messages/count":   n.Retained,
		"messages/received":         n.MessagesIn,
		"messages/sent":             n.MessagesOut,
		"publish/messages/received": n.MessagesIn,
		"publish/messages/sent":     n.MessagesOut,
		"publish/messages/dropped":  n.DroppedSlow + n.DroppedQueueFull + n.DroppedExpired + n.DroppedTooBig,
		"bytes/received":            n.BytesIn,
		"bytes/sent":                n.BytesOut,
	} {
		values[name] = fmt.Sprint(count)
	}
	return values
}

// retainedFor returns where the retained messages are that a filter can match: a
// wildcard in its first level matches none of the server's own [MQTT-4.7.2-1].
func (b *Broker) retainedFor(filter string) *retained.Store {
	if strings.HasPrefix(filter, "$SYS/") {
		return b.system.store
	}
	return b.retained
}
