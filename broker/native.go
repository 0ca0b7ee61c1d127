package broker

import (
	"bytes"
	"errors"

	"github.com/umbra-iot/umbra/broker/mapping"
	"github.com/umbra-iot/umbra/broker/wire"
	"github.com/umbra-iot/umbra/shadow"
	"github.com/umbra-iot/umbra/things"
)

// nativeMessage writes what a message on a native topic says. err is why it cannot be.
func (b *Broker) nativeMessage(n *mapping.Native, err error, in *mapping.Message, o outcome, done func(outcome, bool)) {
	if err != nil {
		b.count.forbidden.Add(1)
		if refusal, ok := errors.AsType[*shadow.Error](err); ok {
			b.log.Debug("native topic refused", "topic", in.Topic, "client_id", in.Client, "reason", refusal.Message)
		}
		done(o, false)
		return
	}
	if in.Replayed && n.Desired {
		done(o, false) // it was desired then; meanwhile somebody may have thought better of it
		return
	}
	channel := "mqtt"
	if in.Will {
		channel = "will"
	}
	replayed := in.Replayed
	b.things.Submit(things.Request{
		ID: n.ID, Op: shadow.OpUpdate, Author: shadow.Author{Channel: channel, Principal: in.Principal, ClientID: in.Client}, Quiet: true,
		Build: func(doc *shadow.Document) ([]byte, *shadow.Error) {
			if replayed && doc.Deleted() {
				return nil, nil
			}
			payload, _ := n.Patch(doc)
			return payload, nil
		},
	}, func(r *things.Result) {
		if r.Err != nil && r.Err.Code >= 500 {
			o = outcomeOf(r)
		}
		done(o, true)
	})
}

// mirror keeps the delta of a thing as the retained message of its native topic.
func (b *Broker) mirror(thing string, c *shadow.Change) {
	before, after := c.Before.DeltaState(), c.After.DeltaState()
	if bytes.Equal(before, after) && !c.After.Deleted() {
		return
	}
	if len(after) > 0 || len(before) > 0 {
		b.route(wire.NewMessage(wire.Message{Topic: mapping.NativeDelta(thing), Payload: after, QoS: 1, Retain: true}), publisher{})
	}
	if c.After.Deleted() {
		prefix := mapping.NativePrefix + thing
		b.clearRetained([]string{prefix + "/reported/#", prefix + "/desired/#"}, func(*wire.Message) bool { return true })
	}
}
